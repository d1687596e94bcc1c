import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.domain.policy import VERSION, Policy
from pipelines.domain.sections import Profile
from pipelines.errors import PolicyInvalid
from pipelines.evaluation.gates.gate import NoLimits
from pipelines.evaluation.gates.quality.accuracy import ACCURACY
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.gates.service.slo import SLO
from pipelines.evaluation.gates.service.slo_limits import Arrivals, LoadComparison, QuantileLimit
from tests.support.world.records import POLICY_FILE, policy, policy_body

BATCH = {
    "route": "/predict/batch",
    "rate_per_s": 20,
    "quantiles": [{"quantile": 0.95, "limit_ms": 400, "judged": True}],
}
COMPARISON = {"blocks": 100, "block_s": 1, "warmup_s": 0.2, "margin": 1.1, "tolerance_ms": 0.5}

LIMITS: dict[str, tuple[list[object], list[object]]] = {
    "schema_version": ([VERSION], [0, VERSION + 1]),
    "gates.accuracy.minimum": ([0, 1, 0.5], [-0.01, 1.01]),
    "gates.comparison.margin": ([0.01, 0.99], [0, 1, -0.1]),
    "gates.parity.tolerance": ([1e-5, 0.001], [0, 0.0011]),
    "slo.route": (["/predict"], ["/health", "/predict/batch", ""]),
    "slo.rate_per_s": ([10, 10_000], [0, -1, 10_001]),
    "slo.warmup_s": ([0, 600], [-1, 601]),
    "slo.duration_s": ([60, 3600], [59.9, 3601]),
    "slo.max_error_rate": ([0.001], [0, 1]),
    "slo.max_stall_s": ([1, 59.9], [0, 60, 61]),
    "slo.timeout_s": ([1, 60], [0, 61]),
    "slo.first_request_ms": ([1, 4999], [0, -1, 5000]),
    "slo.workers": ([1, 64], [0, -1, 65]),
    "slo.comparison.blocks": ([10, 1000], [9, 0, 1001]),
    "slo.comparison.block_s": ([0.5, 600], [0.49, 0, 601]),
    "slo.comparison.warmup_s": ([0, 60], [-1, 61]),
    "slo.comparison.margin": ([1.05, 2], [1, 0.9, 2.1]),
    "slo.comparison.tolerance_ms": ([0, 49], [-0.1, 50]),
    "slo.routes": ([[BATCH]], [[], [BATCH, BATCH], [BATCH | {"route": "/predict"}], [BATCH | {"route": "/health"}]]),
    "approvals.count": ([1, 10], [0, 11]),
    "approvals.valid_h": ([0.5, 720], [0, 721]),
    "retention.rollbacks": ([1, 100], [0, 101]),
    "retention.bundle_days": ([1, 36500], [0.9, 36501]),
    "retention.work_days": ([1, 36500], [0.9, 36501]),
    "retention.journal_days": ([1, 36500], [0.9, 36501]),
    "retention.progress_days": ([1, 36500], [0.9, 36501]),
}


def changed(path: str, value: object) -> Policy:
    """Return policy.yaml's policy with one limit changed; of a comparison it has none by itself."""
    section, _, key = path.rpartition(".")
    return policy(**{section: COMPARISON | {key: value}} if section == "slo.comparison" else {path: value})


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (legal, _) in LIMITS.items() for value in legal])
def test_legal_limits_are_taken(path: str, value: object) -> None:
    assert changed(path, value)


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (_, bad) in LIMITS.items() for value in bad])
def test_limits_that_nothing_or_everything_meets_are_refused_by_name(path: str, value: object) -> None:
    with pytest.raises(PolicyInvalid, match=path.replace(".", r"\.")) as refused:
        changed(path, value)

    assert refused.value.next


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gates.accuracy.minimum", math.nan),
        ("gates.accuracy.minimum", math.inf),
        ("gates.accuracy.minimum", 10**400),
        ("gates.accuracy.minimum", "0.8"),
        ("gates.accuracy.minimum", True),
        ("gates.accuracy.minimum", None),
        ("gates.accuracy", 0.8),
        ("gates", None),
        ("gates", ["accuracy"]),
        ("approvals.count", 1.0),
        ("approvals.count", True),
        ("slo.extension", 1),
        ("slo.extension", "yes"),
        ("slo.route", 7),
        ("slo.arrivals", "random"),
        ("slo.arrivals", ["poisson"]),
        ("profile", "quick"),
        ("production.accepts", []),
        ("production.accepts", "full"),
        ("production.accepts", ["full", "quick"]),
        ("slo.quantiles", []),
        ("slo.quantiles", [{"quantile": 0.99, "limit_ms": 100, "judged": False}]),
        ("slo.quantiles", [{"quantile": 1.0, "limit_ms": 100, "judged": True}]),
        ("slo.quantiles", [{"quantile": 0.99, "limit_ms": 0, "judged": True}]),
        ("slo.quantiles", [{"quantile": 0.99, "limit_ms": 100}]),
        ("slo.quantiles", [{"quantile": 1e-320, "limit_ms": 100, "judged": True}]),
        ("slo.quantiles", [{"quantile": 0.99, "limit_ms": 5000, "judged": True}]),
        ("slo.quantiles", [{"quantile": 0.99, "limit_ms": ms, "judged": True} for ms in (50, 100)]),
        ("slo.max_error_rate", 1e-320),
        ("slo.first_request_ms", None),
        ("slo.first_request_ms", "1000"),
        ("slo.comparison", None),
        ("slo.comparison", 0),
        ("slo.comparison", 0.0),
        ("slo.comparison", True),
        ("slo.comparison", {"margin": 1.1}),
        ("slo.comparison", COMPARISON | {"blocks": 10.5}),
        ("slo.comparison", COMPARISON | {"blocs": 10}),
        ("slo.routes", BATCH),
        ("slo.routes", [BATCH | {"timeout_s": 1}]),
        ("slo.routes", [{"route": "/predict/batch"}]),
        ("slo.routes", [BATCH | {"rate_per_s": 0}]),
        ("slo.routes", [BATCH | {"quantiles": []}]),
    ],
)
def test_values_of_the_wrong_kind_are_refused(path: str, value: object) -> None:
    with pytest.raises(PolicyInvalid):
        policy(**{path: value})


@pytest.mark.parametrize("body", [None, [], "policy", 1, {}])
def test_what_is_no_policy_at_all_is_refused(body: object) -> None:
    with pytest.raises(PolicyInvalid):
        GATES.read_policy(body)


@pytest.mark.parametrize("section", ["", "gates", "gates.accuracy", "slo", "approvals", "production"])
def test_an_unknown_key_is_refused_wherever_it_stands(section: str) -> None:
    path = f"{section}.minimun" if section else "minimun"

    with pytest.raises(PolicyInvalid, match="minimun") as refused:
        policy(**{path: 0.9})

    assert refused.value.next.startswith("known keys there:")


@pytest.mark.parametrize("path", ["gates", "slo", "approvals", "production", "profile", "slo.rate_per_s"])
def test_version_1_has_no_defaults_and_a_missing_key_is_refused_by_name(path: str) -> None:
    body = policy_body(schema_version=1)
    *sections, key = path.split(".")
    section: dict[str, Any] = body[sections[0]] if sections else body
    del section[key]

    with pytest.raises(PolicyInvalid, match=f"'{key}' is missing"):
        GATES.read_policy(body)


@pytest.mark.parametrize("file", ["policy.yaml", "policy.demo.yaml"])
def test_the_policies_of_this_repository_are_legal(file: str) -> None:
    assert GATES.read_policy(yaml.safe_load(Path(POLICY_FILE.parent / file).read_text()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"slo.rate_per_s": 5},
            "policy.slo: p99 needs at least 368 requests, 5 req/s x 60 s gives 300",
        ),
        (
            {"profile": "demo", "slo.rate_per_s": 29, "slo.duration_s": 10, "slo.extension": False},
            "policy.slo: p99 needs at least 299 requests, 29 req/s x 10 s gives 290",
        ),
        (
            {"slo.quantiles": [{"quantile": 0.999, "limit_ms": 400, "judged": True}], "slo.rate_per_s": 60},
            "policy.slo: p99.9 needs at least 3,688 requests, 60 req/s x 60 s gives 3,600",
        ),
        (
            {"slo.max_error_rate": 0.0001},
            "policy.slo: errors <= 0.01 % needs at least 36,887 requests, 200 req/s x 60 s x 2 looks gives 24,000",
        ),
        (
            {"slo.routes": [BATCH | {"rate_per_s": 1}]},
            "policy.slo.routes[0]: p95 needs at least 72 requests, 1 req/s x 60 s gives 60",
        ),
    ],
)
def test_a_limit_that_the_load_could_never_prove_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyInvalid) as refused:
        policy(**changes)

    assert refused.value.message == message


def test_a_limit_that_is_only_shown_needs_no_proof() -> None:
    limits = [{"quantile": q, "limit_ms": 400, "judged": q < 0.999} for q in (0.99, 0.999)]

    assert policy(**{"slo.quantiles": limits, "slo.rate_per_s": 10})


def test_full_evidence_takes_a_look_of_a_minute_and_a_demonstration_need_not() -> None:
    with pytest.raises(PolicyInvalid, match=r"policy\.slo\.duration_s is out of range") as refused:
        policy(**{"slo.duration_s": 20})

    assert refused.value.next == "legal: 60 to 3,600 where profile is full"
    assert policy(**{"profile": "demo", "slo.duration_s": 10})
    with pytest.raises(PolicyInvalid, match=r"policy\.slo\.duration_s is out of range"):
        policy(**{"profile": "demo", "slo.duration_s": 9.9})


@pytest.mark.parametrize("judged", [True, False])
def test_a_higher_quantile_may_not_have_the_lower_limit(judged: bool) -> None:
    def limits(p99_ms: float, p95_ms: float) -> list[dict[str, Any]]:
        p99 = {"quantile": 0.99, "limit_ms": p99_ms, "judged": True}
        return [p99, {"quantile": 0.95, "limit_ms": p95_ms, "judged": judged}]

    with pytest.raises(PolicyInvalid, match=r"policy\.slo\.quantiles") as refused:
        policy(**{"slo.quantiles": limits(100, 200)})
    assert refused.value.next == "legal: no limit below that of a lower quantile, which it would include"
    with pytest.raises(PolicyInvalid, match=r"policy\.slo\.routes\[0\]\.quantiles"):
        policy(**{"slo.routes": [BATCH | {"quantiles": limits(100, 200)}]})
    assert policy(**{"slo.quantiles": limits(100, 100)})


def test_each_route_has_limits_of_its_own_and_shares_the_rest() -> None:
    changes = {"slo.routes": [BATCH], "slo.comparison": COMPARISON, "slo.first_request_ms": 1000}
    first, batch = SLO.limits_of(policy(**changes)).each_route()

    assert (first.route, first.rate_per_s, first.first_request_ms) == ("/predict", 200, 1000)
    assert first.comparison == LoadComparison.model_validate(COMPARISON)
    assert (batch.route, batch.rate_per_s, batch.duration_s) == ("/predict/batch", 20, 60)
    assert batch.quantiles == (QuantileLimit(quantile=0.95, limit_ms=400, judged=True),)
    assert (batch.comparison, batch.first_request_ms) == (False, None)


def test_what_has_no_limit_does_not_count_in_a_digest() -> None:
    plain = policy()

    assert not {"first_request_ms", "workers", "routes"} & set(plain.body["slo"])
    assert policy(**{"slo.comparison": COMPARISON}).digest != plain.digest
    assert policy(**{"slo.routes": [BATCH]}).digest != plain.digest


def test_sections_and_keys_that_are_left_out_have_their_defaults() -> None:
    shortest = GATES.read_policy({"schema_version": VERSION, "profile": "full"})
    written_out = GATES.read_policy(yaml.safe_load(POLICY_FILE.read_text()))
    one_key = GATES.read_policy({"schema_version": VERSION, "profile": "full", "slo": {"rate_per_s": 300}})

    assert shortest == written_out
    assert shortest.digest == written_out.digest
    assert SLO.limits_of(one_key) == SLO.limits_of(shortest).model_copy(update={"rate_per_s": 300})


def test_what_is_put_in_force_says_every_limit_so_that_a_new_default_changes_nothing() -> None:
    body = GATES.read_policy({"schema_version": VERSION, "profile": "full"}).body

    with_limits = [gate for gate in GATES.all if gate.place.startswith("gates.") and gate.limits is not NoLimits]
    assert body["gates"] == {gate.name: gate.limits().as_json() for gate in with_limits}
    assert body["gates"]["accuracy"] == {"minimum": 0.78, "minimum_rows": 30, "warn_only": False}
    assert body["slo"]["comparison"]["blocks"] == 100
    assert body["approvals"] == {"count": 1, "valid_h": 24}


@pytest.mark.parametrize("key", ["profile", "schema_version"])
def test_what_has_no_default_is_refused_by_name_where_it_is_missing(key: str) -> None:
    body = {"schema_version": VERSION, "profile": "full"}
    del body[key]

    with pytest.raises(PolicyInvalid, match=f"'{key}' is missing"):
        GATES.read_policy(body)


def test_a_policy_of_a_newer_version_is_refused_with_both_versions() -> None:
    newer = {"schema_version": VERSION + 1, "anything": "else"}

    for read in (GATES.read_policy, Policy.read):
        with pytest.raises(
            PolicyInvalid, match=f"is of version {VERSION + 1}, and this Slipway reads {VERSION} at most"
        ):
            read(newer)


STORED = sorted((Path(__file__).parent / "stored").glob("policy.1.*.json"))


@pytest.mark.parametrize("file", STORED, ids=lambda file: str(file.name))
def test_a_stored_policy_of_version_1_is_read_and_keeps_its_digest(file: Path) -> None:
    stored = json.loads(file.read_text())
    read = Policy.read(stored["body"])

    assert (read.digest, read.body) == (stored["digest"], stored["body"])
    assert (read.approvals.count, read.approvals.valid_h) == (1, 24)
    assert ACCURACY.limits_of(read).minimum == 0.78
    assert SLO.limits_of(read).comparison == LoadComparison.model_validate(stored["body"]["slo"]["comparison"])


@pytest.mark.parametrize("file", STORED, ids=lambda file: str(file.name))
def test_a_file_of_version_1_is_put_in_force_as_todays_with_the_same_limits(file: Path) -> None:
    body = json.loads(file.read_text())["body"]
    applied = GATES.read_policy(body)

    assert applied.body["schema_version"] == VERSION
    assert [gate.limits_of(applied) for gate in GATES.all] == [gate.limits_of(Policy.read(body)) for gate in GATES.all]


def test_version_1_compared_only_where_it_said_how() -> None:
    (stored,) = (json.loads(file.read_text())["body"] for file in STORED if "full" in file.name)
    del stored["slo"]["comparison"]

    assert SLO.limits_of(Policy.read(stored)).comparison is False
    assert SLO.limits_of(GATES.read_policy(stored)).comparison is False


@pytest.mark.parametrize("nothing", [False, 0, True])
def test_version_1_knew_no_way_to_switch_the_comparison_off_by_a_value(nothing: object) -> None:
    (stored,) = (json.loads(file.read_text())["body"] for file in STORED if "full" in file.name)
    stored["slo"]["comparison"] = nothing

    with pytest.raises(PolicyInvalid, match=r"policy\.slo\.comparison"):
        GATES.read_policy(stored)


def test_a_comparison_that_is_neither_is_told_what_it_may_be() -> None:
    with pytest.raises(PolicyInvalid, match=r"policy\.slo\.comparison is '5'") as refused:
        policy(**{"slo.comparison": 5})
    assert refused.value.next == "give a section with keys, or false"


def test_limits_of_a_gate_that_no_longer_hold_stop_nothing_but_the_gate() -> None:
    stored = policy_body(**{"gates.accuracy.minimum": 7, "gates.retired": {}})

    assert Policy.read(stored).approvals.count == 1
    with pytest.raises(PolicyInvalid, match=r"policy\.gates\.accuracy\.minimum is out of range"):
        ACCURACY.limits_of(Policy.read(stored))


def test_demo_evidence_is_not_accepted_by_the_full_policy() -> None:
    demo = GATES.read_policy(yaml.safe_load((POLICY_FILE.parent / "policy.demo.yaml").read_text()))

    assert demo.profile not in policy().production.accepts


def test_the_digest_counts_values_and_not_their_order_or_spelling() -> None:
    body = policy_body()
    reversed_body = dict(reversed(body.items()))

    assert GATES.read_policy(reversed_body).digest == policy().digest
    assert policy(**{"slo.rate_per_s": 200.0}).digest == policy(**{"slo.rate_per_s": 200}).digest
    assert policy(**{"gates.accuracy.minimum": 0.79}).digest != policy().digest


def test_texts_become_enums() -> None:
    assert policy().profile is Profile.FULL
    assert SLO.limits_of(policy()).arrivals is Arrivals.POISSON
