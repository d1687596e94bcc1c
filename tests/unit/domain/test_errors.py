import inspect
import json

import pytest

from pipelines import errors
from pipelines.errors import SlipwayError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SlipwayError)]

# What people and scripts rely on.
EXIT_CODES = {
    "internal": 1,
    "usage": 2,
    "unknown_version": 2,
    "not_servable": 2,
    "other_model": 2,
    "other_installation": 2,
    "older_tables": 2,
    "port_taken": 2,
    "unknown_model": 2,
    "policy_invalid": 2,
    "target_unavailable": 2,
    "engine_unavailable": 2,
    "refused": 3,
    "gate_failed": 3,
    "rejected": 3,
    "cancelled": 3,
    "lease_held": 3,
    "lost_lease": 3,
    "approval_void": 3,
    "not_allowed": 3,
    "backup_damaged": 3,
    "no_rollback_target": 3,
    "undecided": 4,
    "inconclusive": 4,
    "gate_error": 4,
    "job_failed": 4,
    "overdue": 4,
    "registry_unavailable": 4,
    "database_unavailable": 4,
    "api_unavailable": 4,
    "too_many_requests": 4,
    "too_many_streams": 4,
    "image_unavailable": 4,
    "approval_expired": 4,
    "deploy_failed": 5,
}


def test_every_refusal_has_a_code_of_its_own_and_the_exit_code_people_rely_on() -> None:
    assert sorted(kind.code for kind in KINDS) == sorted(EXIT_CODES)
    assert {kind.code: kind.exit_code for kind in KINDS} == EXIT_CODES


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_comes_back_from_its_wire_form(kind: type[SlipwayError]) -> None:
    refusal = kind("version 7 has no bundle", next='run "make candidate"')

    again = SlipwayError.from_dict(json.loads(json.dumps(refusal.as_dict())))

    assert type(again) is kind
    assert again.as_dict() == refusal.as_dict()
    assert str(again) == "version 7 has no bundle"


@pytest.mark.parametrize("code", ["", "of_a_newer_slipway"])
def test_an_unknown_code_is_a_bug_and_keeps_its_message(code: str) -> None:
    again = SlipwayError.from_dict({"code": code, "message": "told", "next": "do"})

    assert (type(again), again.message, again.next) == (SlipwayError, "told", "do")


def test_a_body_that_says_nothing_is_still_a_refusal() -> None:
    assert SlipwayError.from_dict({}).message == "no message"


def test_the_tree_in_the_module_names_every_refusal() -> None:
    drawn = errors.__doc__ or ""

    assert [kind.__name__ for kind in KINDS if kind.__name__ not in drawn] == []
