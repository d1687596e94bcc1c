"""A search for the small steps that change an answer: what an adversary, or bad luck, finds.

Greedy: in each round every row takes the one step that leads its answer furthest away, of another feature each time (as
Papernot et al. 2016 do with gradients, which a served model does not give).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipelines.domain.bundle import Feature
from pipelines.evaluation.gates.robustness.perturbations import SEARCH, Moves, Perturbed, Values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.packaging.onnx_model import Scores

Ask = Callable[[Values], "Scores"]
# So many rows are tried, and so many answers asked for in a round.
MOST_ROWS, _MOST_ASKED = 200, 20_000


def searched(values: Values, features: Sequence[Feature], share: float, rounds: int, ask: Ask) -> Perturbed:
    """Return the first rows after at most so many steps, each of a number, date or time by a share of its spread.

    A row stops at the step that changes its label.
    """
    import numpy as np

    words = f"the worst {rounds} steps found of {100 * share:g} % of the spread of a number"
    moves = Moves.of(values, features)
    steps = [(name, sign * size) for name, size in moves.sizes(share).items() for sign in (-1, 1)]
    count = min(MOST_ROWS, _MOST_ASKED // max(1, len(steps)), len(next(iter(values.values()))))
    now = {name: column[:count] for name, column in values.items()}
    if not steps or not count:
        return Perturbed(SEARCH, words, now, np.zeros(count, dtype=bool))
    owners = np.array([name for name, _ in steps])
    origin, rows = ask(now), np.arange(count)
    free, going = np.ones((len(steps), count), dtype=bool), np.ones(count, dtype=bool)
    for _ in range(min(rounds, len(steps) // 2)):
        tried = {name: np.tile(column, (len(steps), 1)) for name, column in now.items()}
        for number, (name, size) in enumerate(steps):
            tried[name][number] = moves.moved(name, now[name], size)
        away = _away(ask({name: column.reshape(-1) for name, column in tried.items()}), origin, len(steps))
        best = np.where(free, away, -1.0).argmax(axis=0)
        now = {name: np.where(going, column[best, rows], now[name]) for name, column in tried.items()}
        going &= away[best, rows] < 2
        free &= owners[:, None] != owners[best][None, :]
    return Perturbed(SEARCH, words, now, np.ones(count, dtype=bool))


def _away(found: "Scores", origin: "Scores", copies: int) -> "NDArray[np.float64]":
    """Return how far answers (copies * n,) are from those of before (n,), as (copies, n).

    Of a classifier that is 1 minus the probability of the class of before, and 2 more for another label; of a
    regression the distance. What is no number is far away.
    """
    import numpy as np

    shape = (copies, len(origin.numbers))
    if found.labels is None or origin.labels is None:
        return np.nan_to_num(np.abs(found.values.reshape(shape) - origin.values), nan=np.inf)
    place = np.tile(origin.numbers.argmax(axis=1), copies)
    own = found.numbers[np.arange(len(place)), place].reshape(shape)
    other = (found.labels.reshape(shape) != origin.labels).astype(np.float64)
    away: NDArray[np.float64] = np.nan_to_num(1 - own, nan=3.0) + 2 * other
    return away
