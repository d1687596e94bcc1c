from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from pipelines.domain.bundle import Feature, FeatureType, Schema, canonical, digest_of, schema_breaks, schema_gains
from pipelines.domain.description import CategoryFeature, Description, NumericFeature, Output, WrittenFeature

AGE = Feature("age", FeatureType.INTEGER, minimum=0, maximum=120, observed=(18, 90))
INCOME = Feature("income", FeatureType.NUMBER)
PLAN = Feature("plan", FeatureType.CATEGORY, categories=("basic", "pro"))
SERVING = Schema((AGE, INCOME, PLAN), ("No", "Yes"), "Yes")


def with_feature(changed: Feature) -> Schema:
    return replace(SERVING, features=tuple(changed if f.name == changed.name else f for f in SERVING.features))


@pytest.mark.parametrize(
    "candidate",
    [
        SERVING,
        replace(SERVING, features=tuple(reversed(SERVING.features))),
        replace(SERVING, classes=("Yes", "No")),
        with_feature(replace(AGE, type=FeatureType.NUMBER)),
        with_feature(replace(AGE, minimum=None, maximum=None)),
        with_feature(replace(AGE, minimum=-1, maximum=121)),
        with_feature(replace(AGE, observed=(30, 31))),
        with_feature(replace(PLAN, categories=("pro", "plus", "basic"))),
    ],
)
def test_a_candidate_that_takes_all_that_production_takes_breaks_nothing(candidate: Schema) -> None:
    assert schema_breaks(SERVING, candidate) == ()


@pytest.mark.parametrize(
    ("candidate", "named"),
    [
        (replace(SERVING, features=(AGE, INCOME)), "plan is gone"),
        (replace(SERVING, features=(*SERVING.features, Feature("new", FeatureType.NUMBER))), "new is new"),
        (with_feature(replace(INCOME, type=FeatureType.INTEGER)), "income was number and is integer"),
        (with_feature(replace(PLAN, type=FeatureType.NUMBER)), "plan was category"),
        (with_feature(replace(AGE, minimum=1)), "age no longer accepts values below 1"),
        (with_feature(replace(AGE, maximum=119)), "age no longer accepts values above 119"),
        (with_feature(replace(INCOME, minimum=0)), "income no longer accepts values below 0"),
        (with_feature(replace(INCOME, maximum=9)), "income no longer accepts values above 9"),
        (with_feature(replace(PLAN, categories=("basic",))), "plan no longer accepts 'pro'"),
        (replace(SERVING, classes=("No", "Maybe", "Yes")), "answers ['No', 'Maybe', 'Yes']"),
        (replace(SERVING, positive="No"), "answers"),
    ],
)
def test_a_candidate_that_breaks_clients_says_how(candidate: Schema, named: str) -> None:
    breaks = schema_breaks(SERVING, candidate)

    assert len(breaks) == 1
    assert named in breaks[0]


def test_every_break_is_told() -> None:
    candidate = Schema((replace(AGE, minimum=1, maximum=2),), ("No",), "No")

    assert len(schema_breaks(SERVING, candidate)) == 5


@pytest.mark.parametrize(
    ("candidate", "named"),
    [
        (SERVING, ()),
        (with_feature(replace(AGE, type=FeatureType.NUMBER)), ("age was integer and is number",)),
        (
            with_feature(replace(AGE, minimum=None, maximum=130)),
            ("age also accepts values below 0", "age also accepts values above 120"),
        ),
        (with_feature(replace(AGE, minimum=1)), ()),
        (with_feature(replace(PLAN, categories=("pro", "plus", "basic"))), ("plan also accepts 'plus'",)),
        (with_feature(replace(PLAN, nullable=True)), ("plan may now be missing",)),
        (
            replace(SERVING, features=(*SERVING.features, Feature("new", FeatureType.NUMBER, nullable=True))),
            ("new is new and may be left out",),
        ),
        (replace(SERVING, features=(*SERVING.features, Feature("new", FeatureType.NUMBER))), ()),
    ],
)
def test_what_a_candidate_takes_beyond_production_is_told(candidate: Schema, named: tuple[str, ...]) -> None:
    gains = schema_gains(SERVING, candidate)

    assert gains == tuple(f"feature {each}" for each in named)


def test_a_longer_text_is_a_gain() -> None:
    short, long = (Schema((Feature("t", FeatureType.TEXT, maximum_length=n),), (), None) for n in (10, 20))

    assert schema_gains(short, long) == ("feature t also accepts texts of more than 10 characters",)
    assert schema_gains(long, short) == ()


def test_many_lost_categories_are_counted_and_looked_for_once() -> None:
    class Counted(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return super().__eq__(other)

        __hash__ = str.__hash__

    zips = tuple(Counted(f"{number:05d}") for number in range(2000))
    serving = with_feature(replace(PLAN, categories=zips))
    assert schema_breaks(serving, with_feature(replace(PLAN, categories=tuple(f"{zip}" for zip in zips[::-1])))) == ()
    candidate = with_feature(replace(PLAN, categories=tuple(f"x{zip}" for zip in zips)))
    (told,) = schema_breaks(serving, candidate)
    assert "no longer accepts 2,000 of its values, such as '00000', '00001'" in told and len(told) < 300
    assert Counted.compared < 10 * len(zips)


@pytest.mark.parametrize("feature", [AGE, INCOME, PLAN])
def test_a_feature_comes_back_as_it_was_written(feature: Feature) -> None:
    written = TypeAdapter[CategoryFeature | NumericFeature](WrittenFeature)

    assert Feature.read(written.validate_json(feature.written().model_dump_json())) == feature


def test_a_schema_is_read_from_a_bundle() -> None:
    bundle = Description.model_construct(
        features=tuple(feature.written() for feature in SERVING.features),
        output=Output(target="churned", classes=("No", "Yes"), positive="Yes"),
    )

    assert Schema.of(bundle) == SERVING


def test_the_canonical_form_has_sorted_keys_no_blanks_and_utf8() -> None:
    assert canonical({"b": [1, 2.5], "a": "\u00e9"}) == b'{"a":"\xc3\xa9","b":[1,2.5]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_canonical_form_refuses_what_json_does_not_know(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"value": value})


def test_a_digest_names_its_algorithm() -> None:
    assert digest_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
