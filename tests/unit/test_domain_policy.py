import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.domain.policy import Arrivals, Policy, Profile
from pipelines.errors import PolicyInvalid
from tests.records import POLICY_FILE, policy, policy_body

LIMITS: dict[str, tuple[list[object], list[object]]] = {
    "schema_version": ([1], [0, 2]),
    "gates.accuracy.minimum": ([0, 1, 0.5], [-0.01, 1.01]),
    "gates.comparison.margin": ([0.01, 0.99], [0, 1, -0.1]),
    "gates.parity.tolerance": ([1e-5, 0.001], [0, 0.0011]),
    "slo.route": (["/predict"], ["/health", "/predict/batch", ""]),
    "slo.rate_per_s": ([0.5, 10_000], [0, -1, 10_001]),
    "slo.warmup_s": ([0, 600], [-1, 601]),
    "slo.duration_s": ([10, 3600], [9.9, 3601]),
    "slo.max_error_rate": ([0.001], [0, 1]),
    "slo.max_stall_s": ([1, 60], [0, 61]),
    "slo.timeout_s": ([1, 60], [0, 61]),
    "approvals.count": ([1, 10], [0, 11]),
    "approvals.valid_h": ([0.5, 720], [0, 721]),
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (legal, _) in LIMITS.items() for value in legal])
def test_legal_limits_are_taken(path: str, value: object) -> None:
    assert policy(**{path: value})


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (_, bad) in LIMITS.items() for value in bad])
def test_limits_that_nothing_or_everything_meets_are_refused_by_name(path: str, value: object) -> None:
    with pytest.raises(PolicyInvalid, match=path.replace(".", r"\.")) as refused:
        policy(**{path: value})

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
    ],
)
def test_values_of_the_wrong_kind_are_refused(path: str, value: object) -> None:
    with pytest.raises(PolicyInvalid):
        policy(**{path: value})


@pytest.mark.parametrize("body", [None, [], "policy", 1, {}])
def test_what_is_no_policy_at_all_is_refused(body: object) -> None:
    with pytest.raises(PolicyInvalid):
        Policy.parse(body)


@pytest.mark.parametrize("section", ["", "gates", "gates.accuracy", "slo", "approvals", "production"])
def test_an_unknown_key_is_refused_wherever_it_stands(section: str) -> None:
    path = f"{section}.minimun" if section else "minimun"

    with pytest.raises(PolicyInvalid, match="minimun") as refused:
        policy(**{path: 0.9})

    assert refused.value.next.startswith("known keys there:")


@pytest.mark.parametrize("path", ["gates", "slo", "approvals", "production", "profile", "slo.rate_per_s"])
def test_a_missing_key_is_refused_by_name(path: str) -> None:
    body = policy_body()
    *sections, key = path.split(".")
    section: dict[str, Any] = body[sections[0]] if sections else body
    del section[key]

    with pytest.raises(PolicyInvalid, match=f"'{key}' is missing"):
        Policy.parse(body)


@pytest.mark.parametrize("file", ["policy.yaml", "policy.demo.yaml"])
def test_the_policies_of_this_repository_are_legal(file: str) -> None:
    assert Policy.parse(yaml.safe_load(Path(POLICY_FILE.parent / file).read_text()))


def test_demo_evidence_is_not_accepted_by_the_full_policy() -> None:
    demo = Policy.parse(yaml.safe_load((POLICY_FILE.parent / "policy.demo.yaml").read_text()))

    assert demo.profile not in policy().production.accepts


def test_the_digest_counts_values_and_not_their_order_or_spelling() -> None:
    body = policy_body()
    reversed_body = dict(reversed(body.items()))

    assert Policy.parse(reversed_body).digest == policy().digest
    assert policy(**{"slo.rate_per_s": 200.0}).digest == policy(**{"slo.rate_per_s": 200}).digest
    assert policy(**{"gates.accuracy.minimum": 0.79}).digest != policy().digest


def test_texts_become_enums() -> None:
    assert policy().profile is Profile.FULL
    assert policy().slo.arrivals is Arrivals.POISSON
