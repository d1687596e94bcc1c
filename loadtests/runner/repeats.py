"""Measure a phase again that a busy moment of the machine has spoiled, a few times at most."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from loadtests.judge.verdict import Check, Verdict, disturbance
from loadtests.runner.caller import Caller
from loadtests.runner.phase import Phase

MOST = 2


@dataclass(frozen=True)
class Repeats:
    """The phases that are measured again because the machine disturbed the generator, and why.

    That says nothing of the target, so measuring again favours no verdict; what was measured in vain stays as a raw
    file. A machine that is never quiet would otherwise hold the run for ever: they are a few at most.
    """

    caller: Caller
    why: list[str] = field(default_factory=list)

    def named(self, phase: Phase) -> Phase:
        """Return the phase by the name of its next try."""
        tries = 1 + sum(why.startswith(f"{phase.name} ") for why in self.why)
        return phase if tries == 1 else replace(phase, name=f"{phase.name} try {tries}")

    def follow(self, phase: Phase, checks: Sequence[Check]) -> bool:
        """Tell whether to measure the phase again after these checks of it, and note it and say so.

        What it would have spoken against the target is noted too: who approves is to know.
        """
        found = disturbance(checks)
        if found is None or len(self.why) == MOST:
            return False
        noes = [check.message for check in checks if check.verdict is Verdict.FAILED and check.judged]
        self.why.append(f"{phase.name} ({'; '.join([found.removeprefix('INCONCLUSIVE: '), *noes])})")
        self.caller.say(f"{phase.name}: {found}; measuring it again")
        return True

    def checks(self) -> list[Check]:
        """Return what tells people of the repeats; nothing where there were none."""
        message = f"PASS repeats: measured again {' and '.join(self.why)}"
        n, most = float(len(self.why)), float(MOST)
        return [Check("repeats", Verdict.PASSED, n, most, message, judged=False)] if self.why else []
