"""Asking for an evaluation, and what is shown of it."""

from tests.support.world.api import Api
from tests.support.world.records import report_step


def test_an_evaluation_is_asked_for_and_shown(api: Api) -> None:
    answer = api.ask("evaluations", {})

    assert (answer.status_code, answer.json()) == (202, {"id": "e-1", "version": "3"})
    report_step(api.records, "e-1", "packaging")
    shown = api.get("evaluations/e-1")
    assert (shown["state"], shown["requested_by"], shown["report"]) == ("requested", "alice", None)
    assert [line["step"] for line in shown["steps"]] == ["packaging"]
