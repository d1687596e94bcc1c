from datetime import UTC, datetime, timedelta

import pytest

from pipelines.client import executor_silence


@pytest.mark.parametrize(
    ("silent_s", "says"),
    [(0, ""), (9, ""), (11, "was last seen at"), (86_400, "was last seen at"), (None, "has never been there")],
)
def test_an_executor_that_does_not_show_itself_is_told_with_what_to_do(silent_s: float | None, says: str) -> None:
    seen_at = None if silent_s is None else (datetime.now(UTC) - timedelta(seconds=silent_s)).isoformat()
    told = executor_silence({"executor": {"heartbeat_at": seen_at}})
    assert bool(told) is bool(says)
    assert says in told
    assert told == "" or '"make up" starts it' in told
