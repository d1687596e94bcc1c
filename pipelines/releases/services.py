"""What every workflow is given: the ports, who the executor is, and how long it may wait."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.domain.policy import Policy
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.governance.models import served_models
from pipelines.governance.progress import report_progress
from pipelines.governance.standing import policy_in_force, serving_release
from pipelines.ports import Bundles, JobRunner, LoadRunner, ModelRegistry, Records, ServiceProbe, Target
from pipelines.releases.turns import LoadTurns
from pipelines.releases.unanswered import Unanswered


@dataclass(frozen=True)
class Timing:
    """Deadlines: a release is to converge, a slot to empty, a registry or database that is away to be tried.

    For `watch_s` the replicas of a new release are watched before the alias moves. A target may take `order_s` to say
    what it was asked for.
    """

    converge_s: float = 60.0
    empty_s: float = 60.0
    registry_s: float = 60.0
    watch_s: float = 2.0
    poll_s: float = 0.05
    order_s: float = 10.0


@dataclass(frozen=True)
class Services:
    """The world of a workflow; `fault` stops the process at a named step when a test asked for it.

    `model` is the default one of the installation. `works_on` says whether a thread of this process carries work out.
    `load_turns` let one load run at a time go on.
    """

    records: Records
    registry: ModelRegistry
    target: Target
    loads: LoadRunner
    jobs: JobRunner
    probe: ServiceProbe
    bundles: Bundles
    workdir: Path
    executor: str
    model: str
    now: Callable[[], str]
    fault: Callable[[str], None] = lambda step: None
    timing: Timing = Timing()
    unanswered: Unanswered = field(default_factory=Unanswered)
    works_on: Callable[[str], bool] = lambda id: True
    load_turns: LoadTurns = field(default_factory=LoadTurns)

    def models(self) -> list[str]:
        """Return the models that are looked after, the default one first."""
        return served_models(self.records, self.model)

    def note(self, subject: str, step: str, message: str) -> None:
        """Write one line of progress for people who watch."""
        with self.records.write() as transaction:
            report_progress(transaction, subject, step, message)

    def policy(self, model: str) -> Policy:
        """Return the policy in force for a model, or raise UsageError before any was applied."""
        return policy_in_force(self.records, model)

    def serving(self, model: str, environment: Environment) -> ReleaseRecord | None:
        """Return the recorded release of an environment's live slot, if any."""
        return serving_release(self.records, model, environment)
