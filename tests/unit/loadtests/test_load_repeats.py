"""How often a load run measures again what a busy moment of the machine has spoiled."""

from loadtests.judge.verdict import About, Check, Verdict
from loadtests.runner.caller import Caller
from loadtests.runner.phase import Phase
from loadtests.runner.repeats import Repeats

LATE = "INCONCLUSIVE: send_lag: p99 send lag 34 ms, allowed is less than 25 ms"
DISTURBED = Check("send_lag", Verdict.INCONCLUSIVE, 34, 25, LATE, about=About.MACHINE)
SLOW = Check("p99", Verdict.FAILED, 300, 100, "FAIL: p99=300.0000 ms > 100 ms")
SHOWN = Check("p50", Verdict.FAILED, 30, 10, "FAIL: p50=30.0000 ms > 10 ms", judged=False)
OTHER = Check("versions", Verdict.INCONCLUSIVE, 1, 0, "INCONCLUSIVE: versions: ...", about=About.SERVED)
FIRST, SECOND = (Phase(f"look {number}", number, "http://127.0.0.1:1", 1, 10) for number in (1, 2))


def test_nothing_is_repeated_without_a_disturbance_or_where_something_else_answered() -> None:
    repeats = Repeats(Caller())

    assert not repeats.follow(FIRST, [SLOW])
    assert not repeats.follow(FIRST, [DISTURBED, OTHER])
    assert repeats.named(FIRST) == FIRST
    assert repeats.checks() == []


def test_each_try_has_a_name_and_tells_its_noes_and_the_tries_of_a_run_are_limited() -> None:
    repeats = Repeats(Caller())

    assert repeats.follow(FIRST, [SLOW, SHOWN, DISTURBED])
    assert repeats.named(FIRST).name == "look 1 try 2"
    assert repeats.named(SECOND).name == "look 2"
    assert repeats.follow(SECOND, [DISTURBED])
    assert repeats.named(SECOND).name == "look 2 try 2"
    assert not repeats.follow(SECOND, [DISTURBED])
    (told,) = repeats.checks()
    assert (told.verdict, told.judged, told.observed) == (Verdict.PASSED, False, 2)
    late = LATE.removeprefix("INCONCLUSIVE: ")
    assert told.message == f"PASS repeats: measured again look 1 ({late}; {SLOW.message}) and look 2 ({late})"
