"""What is known of the requests that are served, by version and day."""

from typing import Any

from pipelines.domain.description import ValueAnswer
from pipelines.domain.live_drift import Glance, Look, Seen
from pipelines.domain.records import LiveDrift, LiveWindow, RequestLog
from pipelines.domain.release import Environment
from pipelines.governance.progress import report_progress
from pipelines.live.scores import scores_of
from pipelines.operator.live import drift_told, live_told
from tests.support.world.api import Api
from tests.support.world.records import MODEL, NOW, add

PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING


def window(day: str, environment: Environment = PRODUCTION, **changes: object) -> LiveWindow:
    values = {
        "seen": 10, "kept": 8, "dropped": 1, "lost": 1,
        "scores": {"classes": {"No": 6, "Yes": 2}, "bins": [8] + 19 * [0]}
    }  # fmt: skip
    id = f"{MODEL}/{environment}/{day}/2"
    return LiveWindow(id, MODEL, environment, "2", day, at=NOW, **{**values, **changes})  # type: ignore[arg-type]


def test_nothing_is_known_before_a_request_was_sampled(api: Api) -> None:
    found = api.get("live")

    drift = {"drifted": False, "look": None, "history": []}
    assert found == {"model": MODEL, "task": None, "classes": None, "windows": [], "more": False, "drift": drift}
    assert "no request of" in live_told(found)


def test_windows_tell_what_was_seen_lost_and_how_well_it_was_answered(api: Api) -> None:
    output = {"task": "binary", "classes": ["No", "Yes"], "positive": "Yes", "version": "2"}
    quality = {"labelled": 5, "accuracy": 0.8, "accuracy_low": 0.4, "accuracy_high": 0.9, "macro_f1": 0.7}
    add(
        api.records,
        RequestLog(f"{MODEL}/{PRODUCTION}", MODEL, PRODUCTION, output, {}, NOW),
        window("2026-01-01", quality=quality),
        window("2026-01-02", STAGING),
    )

    found = api.get("live")

    assert (found["task"], found["classes"]) == ("binary", ["No", "Yes"])
    first, second = found["windows"]
    assert (first["seen"], first["kept"], first["dropped"], first["lost"]) == (10, 8, 1, 1)
    assert first["quality"]["accuracy"] == 0.8 and first["quality"]["auc"] is None
    assert second["quality"] is None
    table = live_told(found)
    assert "1 (1 replicas gone)" in table and "accuracy 0.800 (0.400 to 0.900), on 5 rows" in table
    assert "No 75.0%, Yes 25.0%" in table
    assert [each["day"] for each in api.get("live", environment="staging")["windows"]] == ["2026-01-02"]


def test_numbers_are_told_by_mean_and_deviation(api: Api) -> None:
    scores = {"count": 4, "sum": 20.0, "squares": 104.0, "minimum": 4.0, "maximum": 6.0}
    add(api.records, window("2026-01-01", scores=scores))

    [shown] = api.get("live")["windows"]

    assert shown["scores"] == {
        "classes": None, "bins": None, "mean": 5.0, "deviation": 1.0, "minimum": 4.0, "maximum": 6.0
    }  # fmt: skip
    assert "5 +- 1" in live_told(api.get("live"))


def test_numbers_whose_squares_have_no_end_are_told_without_a_deviation(api: Api) -> None:
    one = scores_of([ValueAnswer(prediction=1e200), ValueAnswer(prediction=0.0)])
    two = scores_of([ValueAnswer(prediction=1.7e308)] * 2)
    add(api.records, window("2026-01-01", scores=one), window("2026-01-02", scores=two))

    found = api.get("live")

    shown = [each["scores"] for each in found["windows"]]
    assert [(each["mean"], each["deviation"], each["maximum"]) for each in shown] == [
        (5e199, None, 1e200),
        (None, None, 1.7e308),
    ]
    assert "5e+199" in live_told(found)


def test_older_windows_are_asked_for(api: Api) -> None:
    add(api.records, *(window(f"{2000 + number}-01-01") for number in range(201)))

    newest = api.get("live")

    assert (len(newest["windows"]), newest["more"]) == (200, True)
    assert [each["day"] for each in api.get("live", before=newest["windows"][0]["id"])["windows"]] == ["2000-01-01"]
    assert "older ones are not shown" in live_told(newest)


def span(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def look(**changes: Any) -> dict[str, Any]:
    feature = {"type": "number", "missing_before": 0.0, "missing_now": 0.0}
    feature |= {"typical_before": "3", "typical_now": "[bold]9"}
    values = {
        "at": NOW, "version": "2", "hours": 24.0, "seen": Seen.DRIFTED, "why": "1 of 2 features have drifted",
        "against": "its training", "rows_before": 1000, "rows_now": 500, "rows_kept": 700, "rows_needed": 100,
        "limit": {"distance": 0.25, "auc": 0.75}, "drifted": ["income"], "together": span(0.8), "of_features": 105,
        "features": [
            {"name": "income", "judged": True, "distance": span(0.4), **feature},
            {"name": "born", "judged": False, "distance": span(0.9), **feature, "type": "date"},
        ],
        "not_measured": [{"name": "postcode", "why": "not sampled"}],
    }  # fmt: skip
    return Look.model_validate({**values, **changes}).as_json()


def drift(**values: Any) -> LiveDrift:
    return LiveDrift(f"{MODEL}/{PRODUCTION}", MODEL, PRODUCTION, **values)


def test_the_last_look_at_drift_is_told_with_each_feature_and_those_before(api: Api) -> None:
    glances = [Glance.of(Look.model_validate(each)).as_json() for each in (look(seen="alike"), look())]
    add(api.records, window("2026-01-01"), drift(drifted=True, look=look(), history=glances))

    found = api.get("live")

    assert found["drift"]["drifted"] is True
    assert found["drift"]["look"] == look()
    assert [each["seen"] for each in found["drift"]["history"]] == ["alike", "drifted"]
    said = f"drift of what version 2 was asked in 24 h before {NOW}: DRIFTED\n1 of 2 features have drifted"
    assert live_told(found).endswith(said)
    told = drift_told(found).splitlines()
    assert told[:2] == said.splitlines()
    assert [word for word in told[4].split() if word] == [
        "income", "number", "0.400", "0.390", "0.410", "0.000", "0.000", "3", "[bold]9", "drifted"
    ]  # fmt: skip
    assert told[5].split()[-2:] == ["shown", "only"]
    assert told[-2:] == ["103 more have moved less", "not measured: postcode (not sampled)"]
    undecided = {"drifted": True, "look": look(seen="inconclusive"), "history": []}
    assert "it had drifted when there were rows enough" in live_told({**found, "drift": undecided})


def test_a_look_that_is_asked_for_is_done_once_the_executor_has_looked(api: Api) -> None:
    numbers = [api.ask("live/drift").json()["id"] for _ in range(2)]
    assert numbers == ["1", "2"]
    assert api.get("live/drift/2") == {"id": "2", "state": "requested", "look": None, "steps": []}

    with api.records.write() as transaction:
        report_progress(transaction, f"{MODEL}/{PRODUCTION}/2", "waiting", "e-1 is measured first")
        transaction.put(drift(asked=2, answered=1, look=look()))

    assert api.get("live/drift/1")["state"] == "done" and api.get("live/drift/1")["look"] == look()
    waiting = api.get("live/drift/2")
    assert (waiting["state"], waiting["look"]) == ("requested", None)
    assert [step["message"] for step in waiting["steps"]] == ["e-1 is measured first"]
    with api.records.write() as transaction:
        transaction.put(drift(asked=2, answered=2, look=look()))
    stream = api.send("GET", "/api/v1/live/drift/2/events")
    assert '"state":"done"' in stream.text
    for id in ("3", "0", "-1", "x", "1" * 30):
        assert api.refuse("GET", f"/api/v1/live/drift/{id}") == (400, "usage")
