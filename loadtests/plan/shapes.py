"""Say how the rate moves over a run: a shape is data, so that a plan can hold it and a report can name it."""

import json
import math
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from loadtests.plan.strict import STRICT, refusal

SPIKE_FROM, SPIKE_UNTIL = 0.4, 0.6
MAX_STEPS = 50


class ShapeKind(StrEnum):
    """What the rate does; the plan's rate is always the highest of the run."""

    STEADY = "steady"
    RAMP = "ramp"
    SPIKE = "spike"
    SOAK = "soak"
    STEP = "step"


@dataclass(frozen=True, config=STRICT)
class Shape:
    """A kind of shape: `low` is the share of the rate where ramp and spike begin, `steps` those of a staircase.

    ramp: a straight line from `low` up to the whole rate. spike: `low`, but the whole rate in the middle fifth.
    step: equal stairs up to the whole rate. steady, soak: the whole rate; a soak is meant to last long.
    """

    kind: ShapeKind = ShapeKind.STEADY
    low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    steps: Annotated[int, Field(ge=2, le=MAX_STEPS)] = 5

    def stages(self, duration_s: float) -> tuple["Stage", ...]:
        """Cut a run of that length into stages, their rates as shares of the plan's."""
        if self.kind is ShapeKind.RAMP:
            return (Stage(0.0, duration_s, self.low, 1.0),)
        if self.kind is ShapeKind.SPIKE:
            edges_s = (0.0, SPIKE_FROM * duration_s, SPIKE_UNTIL * duration_s, duration_s)
            levels = (self.low, 1.0, self.low)
            return tuple(
                Stage(begin, end, share, share) for begin, end, share in zip(edges_s, edges_s[1:], levels, strict=False)
            )
        if self.kind is ShapeKind.STEP:
            length_s = duration_s / self.steps
            shares = [(number + 1) / self.steps for number in range(self.steps)]
            return tuple(
                Stage(number * length_s, (number + 1) * length_s, share, share) for number, share in enumerate(shares)
            )
        return (Stage(0.0, duration_s, 1.0, 1.0),)

    def as_text(self) -> str:
        """Write the shape as the JSON that `read_shape` takes."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Stage:
    """A part of a run in which the rate moves in a straight line."""

    from_s: float
    until_s: float
    from_rate: float
    until_rate: float


STEADY = Shape()


class Course:
    """The rate of a run over time, warm-up included, turned into moments by its integral."""

    def __init__(self, shape: Shape, *, rate_per_s: float, warmup_s: float, duration_s: float) -> None:
        """Warm up at the rate that the measured part begins with; after its end the last stage goes on."""
        measured = shape.stages(duration_s)
        first = measured[0].from_rate
        warmup = [Stage(-warmup_s, 0.0, first, first)] if warmup_s else []
        stages = [*warmup, *measured]
        self._from_s = np.array([stage.from_s + warmup_s for stage in stages])
        self._from_rate = np.array([stage.from_rate for stage in stages]) * rate_per_s
        lengths_s = np.array([stage.until_s - stage.from_s for stage in stages])
        rise = np.array([stage.until_rate - stage.from_rate for stage in stages]) * rate_per_s
        self._slope = rise / lengths_s
        expected = (self._from_rate + rise / 2) * lengths_s
        self._before = np.concatenate(([0.0], np.cumsum(expected)[:-1]))
        self.measured_requests = float(expected[len(warmup) :].sum())

    def moments(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return when the expected number of arrivals reaches each count, in seconds from the start.

        Arrivals at rate 1 become those of this course: a Poisson process stays one.
        """
        stage = np.searchsorted(self._before, counts, side="right") - 1
        rate, into = self._from_rate[stage], counts - self._before[stage]
        # The stable root of slope/2 t^2 + rate t = into, which holds without a slope as well.
        root = np.sqrt(rate**2 + 2 * self._slope[stage] * into)
        times: NDArray[np.float64] = self._from_s[stage] + 2 * into / (rate + root)
        return times


def expected_requests(shape: Shape, rate_per_s: float, duration_s: float) -> int:
    """Return how many requests a run of that shape is planned to measure."""
    course = Course(shape, rate_per_s=rate_per_s, warmup_s=0.0, duration_s=duration_s)
    return math.floor(course.measured_requests + 1e-9)


def named_shape(value: object) -> object:
    """Take the name of a kind for the shape of that kind."""
    return {"kind": value} if isinstance(value, str) else value


def read_shape(text: str) -> Shape:
    """Read a shape from its name or its JSON text; raise ValueError saying what is wrong."""
    text = text if text.lstrip().startswith("{") else json.dumps(named_shape(text))
    try:
        return TypeAdapter(Shape).validate_json(text)
    except ValidationError as error:
        raise ValueError(refusal(error, "shape")) from error
