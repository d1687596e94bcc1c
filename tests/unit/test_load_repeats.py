"""How often a load run measures again what a busy moment of the machine has spoiled."""

from loadtests.look import Caller, Stretch
from loadtests.repeats import Repeats
from loadtests.verdict import Verdict

LATE = "INCONCLUSIVE: send_lag: p99 send lag 34 ms, allowed is less than 25 ms"
FIRST, SECOND = (Stretch(f"look {number}", number, "http://127.0.0.1:1", 1, 10) for number in (1, 2))


def test_nothing_is_repeated_and_nothing_told_without_a_disturbance() -> None:
    repeats = Repeats(Caller())

    assert not repeats.follow(FIRST, None)
    assert repeats.named(FIRST) == FIRST
    assert repeats.checks() == []


def test_each_try_has_a_name_of_its_own_and_the_tries_of_a_run_are_limited() -> None:
    repeats = Repeats(Caller())

    assert repeats.follow(FIRST, LATE)
    assert repeats.named(FIRST).name == "look 1 try 2"
    assert repeats.named(SECOND).name == "look 2"
    assert repeats.follow(SECOND, LATE)
    assert repeats.named(SECOND).name == "look 2 try 2"
    assert not repeats.follow(SECOND, LATE)
    (told,) = repeats.checks()
    assert (told.verdict, told.judged, told.observed) == (Verdict.PASSED, False, 2)
    late = LATE.removeprefix("INCONCLUSIVE: ")
    assert told.message == f"PASS repeats: measured again look 1 ({late}) and look 2 ({late})"
