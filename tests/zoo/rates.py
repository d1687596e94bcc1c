"""How often the gates stop a good model, and let a bad one go on, by models that are judged on redrawn customers."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from pipelines.domain.description import Task
from pipelines.domain.policy import Policy
from pipelines.domain.verdict import GateResult
from tests.zoo.animals import ANIMALS, EVALUATION_ROWS, Animal, champion, retrain
from tests.zoo.customers import customers
from tests.zoo.versions import Version, redrawn, results, world_of

# Gates that judge by a sample of rows, so that chance has a say.
STATISTICAL = ("quality", "calibration", "comparison", "slices", "fairness", "robustness", "leakage", "drift")
_FIRST_SEED = 1_000
# So many good retrains take turns: one alone may be a lucky one.
_RETRAINS, _FIRST_RETRAIN_SEED = 10, 500


@dataclass(frozen=True)
class Rate:
    """Of so many evaluation sets, how many led to the wrong answer: `gates` counts which gates stopped a good model."""

    task: Task
    model: str
    gate: str
    sets: int
    wrong: int
    gates: tuple[tuple[str, int], ...] = ()


def rates(
    place: Path, policy: Policy, count: int, tell: Callable[[str], None], tasks: Sequence[Task] = tuple(Task)
) -> list[Rate]:
    """Judge good retrains by all gates, and each bad model by the one that is meant for it, on `count` sets."""
    found: list[Rate] = []
    for task in tasks:
        served = champion(place / f"{task}-champion", task)
        sets = [
            redrawn(served, customers(EVALUATION_ROWS, _FIRST_SEED + seed), task, place / f"{task}-{seed}.parquet")
            for seed in range(count)
        ]
        judging = _Judging(task, served, sets, policy)
        seeds = range(_FIRST_RETRAIN_SEED, _FIRST_RETRAIN_SEED + min(_RETRAINS, count))
        found.append(judging.of_the_good([retrain(place / f"{task}-retrain-{each}", task, each) for each in seeds]))
        tell(str(found[-1]))
        for number, animal in enumerate(ANIMALS):
            if task in animal.tasks and animal.gate in STATISTICAL and animal.beside:
                found.append(judging.of(animal, animal.make(place / f"{task}-{number}", task)))
                tell(str(found[-1]))
    return found


@dataclass(frozen=True)
class _Judging:
    task: Task
    champion: Version
    sets: Sequence[Path]
    policy: Policy

    def of_the_good(self, versions: Sequence[Version]) -> Rate:
        """Count the sets on which any gate stops the one of the versions whose turn it is."""
        turns = zip(cycle(versions), self.sets, strict=False)
        stopping = [{r.gate for r in self._found(version, each) if not r.goes_on} for version, each in turns]
        by = Counter(gate for gates in stopping for gate in gates)
        wrong = sum(map(bool, stopping))
        return Rate(self.task, "good retrains", "all", len(self.sets), wrong, tuple(sorted(by.items())))

    def of(self, animal: Animal, version: Version) -> Rate:
        """Count the sets on which the gate that is meant for it lets it go on."""
        passed = [all(r.goes_on for r in self._found(version, each, animal.gate)) for each in self.sets]
        return Rate(self.task, animal.name, animal.gate, len(self.sets), sum(passed))

    def _found(self, version: Version, evaluation: Path, *gates: str) -> list[GateResult]:
        return results(world_of(version, self.champion, evaluation, predicted=False), self.policy, gates)
