"""Each model of the zoo is refused by the gate that is there to find it, and a good retrain passes all of them."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.domain.description import Task
from pipelines.domain.verdict import Verdict
from tests.zoo.animals import ANIMALS, Animal, champion, retrain
from tests.zoo.policy import limits
from tests.zoo.rates import rates
from tests.zoo.versions import Version, results, world_of

CASES = [(animal, task) for animal in ANIMALS for task in animal.tasks]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # scikit-learn's own, of what a bad model is made of.
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def champions(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Version]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {task: champion(tmp_path_factory.mktemp(f"champion-{task}"), task) for task in Task}


@pytest.mark.parametrize("task", list(Task))
def test_a_good_retrain_passes_every_gate(champions: dict[Task, Version], tmp_path: Path, task: Task) -> None:
    served = champions[task]
    found = results(world_of(retrain(tmp_path, task), served, served.workspace.evaluation), limits())

    assert [result.message for result in found if not result.goes_on] == []


@pytest.mark.parametrize(("animal", "task"), CASES, ids=[f"{animal.name}, {task}" for animal, task in CASES])
def test_a_bad_model_is_refused_by_the_gate_that_is_meant_for_it(
    champions: dict[Task, Version], tmp_path: Path, animal: Animal, task: Task
) -> None:
    made, served = animal.make(tmp_path, task), champions[task] if animal.beside else None
    evaluation = (served or made).workspace.evaluation
    found = results(world_of(made, served, evaluation), limits(), [animal.gate])

    assert Verdict.FAILED in [result.verdict for result in found], [result.message for result in found]


def test_the_rates_count_who_was_stopped_and_who_was_let_go(tmp_path: Path) -> None:
    found = rates(tmp_path, limits(), 2, lambda line: None, [Task.REGRESSION])

    assert [(rate.model, rate.sets) for rate in found][:2] == [("good retrains", 2), ("worse than the champion", 2)]
    assert all(0 <= rate.wrong <= 2 for rate in found) and found[1].wrong == 0
