"""Small changes of requests as they come about in life, each within what the service takes.

Values are those that the model takes (`served.model_values`), by feature, (n,): texts as objects, all else as float64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.domain.bundle import Feature, FeatureType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Values = Mapping[str, "NDArray[Any]"]
NOISE, MISSING, SWAPS, UNITS, SEARCH = "noise", "missing", "swaps", "units", "search"
_FACTORS = (10.0, 100.0, 1000.0)
_NUMBERS = (FeatureType.INTEGER, FeatureType.NUMBER)
_MOVABLE = (*_NUMBERS, FeatureType.DATE, FeatureType.DATETIME)
_WHOLE = (FeatureType.INTEGER, FeatureType.DATE)
# Half of what is normally distributed lies within so many standard deviations.
_QUARTILES = 1.349


@dataclass(frozen=True)
class Perturbed:
    """Rows after a change of one kind, said in words; `changed` (n,) tells which of them it changed."""

    kind: str
    words: str
    values: Values
    changed: "NDArray[np.bool_]"


def perturbed(
    values: Values, features: Sequence[Feature], noise: float, random: "np.random.Generator"
) -> list[Perturbed]:
    """Return the rows after each kind of change; units are confused by each factor in turn."""
    return [
        _noisy(values, features, noise, random),
        _one_each((MISSING, "one value missing"), values, _losable(values, features), random),
        _one_each((SWAPS, "one category swapped for another"), values, _swappable(values, features, random), random),
        *(
            _one_each((UNITS, f"one number times {factor:g}"), values, _scalable(values, features, factor), random)
            for factor in _FACTORS
        ),
    ]


@dataclass(frozen=True)
class Moves:
    """How numbers, dates and times may be moved: by the spread of each, within its bounds and what was seen of it.

    A spread is the distance of the quartiles in standard deviations of a normal distribution, or the standard deviation
    where the quartiles are equal. What never differs does not move.
    """

    features: Mapping[str, Feature]
    spreads: Mapping[str, float]
    bounds: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, values: Values, features: Sequence[Feature]) -> "Moves":
        """Return the moves that fit the rows."""
        import numpy as np

        kept, spreads, bounds = {}, {}, {}
        for each in features:
            column: NDArray[Any] = values[each.name] if each.type in _MOVABLE else np.empty(0)
            known = column[np.isfinite(column)]
            if len(known) and np.ptp(known) > 0:
                kept[each.name] = each
                quarters = np.quantile(known, [0.25, 0.75])
                spreads[each.name] = float(np.ptp(quarters)) / _QUARTILES or float(np.std(known))
                bounds[each.name] = (float(np.min(known)), float(np.max(known)))
        return cls(kept, spreads, bounds)

    def sizes(self, share: float) -> dict[str, float]:
        """Return the steps by a share of each spread, whole ones where values are; none that would be 0."""
        whole = {name for name, each in self.features.items() if each.type in _WHOLE}
        found = {name: float(round(share * x)) if name in whole else share * x for name, x in self.spreads.items()}
        return {name: size for name, size in found.items() if size > 0}

    def moved(self, name: str, column: "NDArray[np.float64]", steps: "NDArray[np.float64] | float") -> "NDArray[Any]":
        """Return a feature's values (n,) after steps."""
        import numpy as np

        found = np.clip(column + steps, *self.bounds[name])
        return np.round(found) if self.features[name].type in _WHOLE else found


def _noisy(values: Values, features: Sequence[Feature], noise: float, random: "np.random.Generator") -> Perturbed:
    import numpy as np

    found, moves = dict(values), Moves.of(values, features)
    changed: NDArray[np.bool_] = np.zeros(_rows(values), dtype=bool)
    for name, spread in moves.spreads.items():
        found[name] = moves.moved(name, values[name], random.normal(0, noise * spread, len(changed)))
        changed[np.isfinite(values[name]) & (found[name] != values[name])] = True
    return Perturbed(NOISE, f"noise of {100 * noise:g} % of the spread of every number", found, changed)


# By a feature, which rows it can be changed in, and its values then.
_Changes = Mapping[str, "tuple[NDArray[np.bool_], NDArray[Any]]"]


def _one_each(kind: tuple[str, str], values: Values, changes: _Changes, random: "np.random.Generator") -> Perturbed:
    """Change each row in one of the features in which it can be changed."""
    import numpy as np

    if not changes:
        return Perturbed(*kind, values, np.zeros(_rows(values), dtype=bool))
    can = np.column_stack([rows for rows, _ in changes.values()])
    chosen = np.where(can, random.random(can.shape), -1.0).argmax(axis=1)
    found = dict(values)
    for number, (name, (rows, replaced)) in enumerate(changes.items()):
        found[name] = np.where(rows & (chosen == number), replaced, values[name])
    changed: NDArray[np.bool_] = np.any(can, axis=1)
    return Perturbed(*kind, found, changed)


def _losable(values: Values, features: Sequence[Feature]) -> _Changes:
    import numpy as np

    found: dict[str, tuple[NDArray[np.bool_], NDArray[Any]]] = {}
    for each in features:
        if each.nullable:
            column = values[each.name]
            missing: Any = "" if each.type.is_text else np.nan
            there = column != "" if each.type.is_text else ~np.isnan(column)
            found[each.name] = (there.astype(bool), np.full(len(column), missing, dtype=column.dtype))
    return found


def _swappable(values: Values, features: Sequence[Feature], random: "np.random.Generator") -> _Changes:
    import numpy as np

    found: dict[str, tuple[NDArray[np.bool_], NDArray[Any]]] = {}
    for each in features:
        column = values[each.name]
        if each.type is FeatureType.BOOLEAN:
            found[each.name] = (np.isfinite(column), 1.0 - column)
        elif each.type is FeatureType.CATEGORY and len(each.categories) > 1:
            places = {text: place for place, text in enumerate(each.categories)}
            known = np.array([places.get(text, -1) for text in column])
            further = random.integers(1, len(places), len(column))
            others = np.array(each.categories, dtype=object)[(known + further) % len(places)]
            found[each.name] = (known >= 0, others)
    return found


def _scalable(values: Values, features: Sequence[Feature], factor: float) -> _Changes:
    import numpy as np

    found: dict[str, tuple[NDArray[np.bool_], NDArray[Any]]] = {}
    for each in features:
        if each.type in _NUMBERS:
            column = values[each.name]
            scaled = column * factor
            low = -np.inf if each.minimum is None else each.minimum
            high = np.inf if each.maximum is None else each.maximum
            found[each.name] = (np.isfinite(column) & (column != 0) & (scaled >= low) & (scaled <= high), scaled)
    return found


def _rows(values: Values) -> int:
    return len(next(iter(values.values())))
