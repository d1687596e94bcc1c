"""What ends an evaluation before it is done: a person, or the time that the policy gives it.

It is asked before each step that measures, and while one goes on, which is told now and then: a load run may take an
hour, and whoever looks takes work that tells nothing for stuck. What undoes is never kept from its end.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

from pipelines.domain.records import Evaluation
from pipelines.errors import Cancelled, DatabaseUnavailable, Overdue
from pipelines.ports import J, Step
from pipelines.releases.machine import Moment
from pipelines.releases.services import Services

_LOOK_S = 0.5
# So often a step that goes on is told, well within releases.stalled.QUIET_S.
_TELL_S = 300.0


@dataclass
class Ending:
    """Tells whether an evaluation has to end, whichever executor it is that goes on with it."""

    services: Services
    evaluation: Evaluation
    _looked: float = -_LOOK_S
    _step: str = ""
    _step_s: float = 0.0
    _told_s: float = 0.0

    def check(self) -> None:
        """Return while it may go on; raise Cancelled or Overdue."""
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        if time.monotonic() - self._begun > self._deadline_s:
            raise Overdue(
                f"{self.evaluation.id} took longer than {self._deadline_s:g} s",
                next="evaluate the version again on a quiet machine, or raise evaluation.deadline_s of the policy",
            )
        try:
            person = self.services.records.get(Evaluation, self.evaluation.id).cancel_asked_by
            self._tell()
        except DatabaseUnavailable:
            # The next look tells; what is under way does not need the database.
            return
        if person:
            raise cancelled(self.evaluation, person)

    def before_each(self, step: Step) -> Step:
        """Return a step that is not begun when the evaluation has to end."""

        def run(name: str, action: Callable[[], J]) -> J:
            def attempt() -> J:
                self._looked = -_LOOK_S
                self._step, self._step_s = name, time.monotonic()
                self._told_s = self._step_s
                self.check()
                return action()

            return step(name, attempt)

        return run

    def _tell(self) -> None:
        if self._step and time.monotonic() - self._told_s >= _TELL_S:
            self._told_s = time.monotonic()
            minutes = (self._told_s - self._step_s) / 60
            self.services.note(self.evaluation.id, self._step, f"has gone on for {minutes:.0f} min")

    @cached_property
    def _begun(self) -> float:
        """When it began, by this process's clock; written down once, so that no new executor gives it more time."""
        services = self.services
        with services.records.write() as transaction:
            current = transaction.get(Evaluation, self.evaluation.id)
            begun = current.begun or asdict(Moment.present(services.now()))
            if current.begun is None:
                transaction.change(current, begun=begun)
        return time.monotonic() - max(0.0, Moment(**begun).ago_s(services.now()))

    @cached_property
    def _deadline_s(self) -> float:
        return self.services.policy(self.evaluation.model).evaluation.deadline_s


def cancelled(evaluation: Evaluation, person: str) -> Cancelled:
    """Return the refusal of an evaluation that somebody has ended."""
    again = f'"make deploy-staging VERSION={evaluation.version}"'
    return Cancelled(f"{evaluation.id} was cancelled by {person}", next=f"evaluate it again: {again}")
