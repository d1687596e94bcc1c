"""What answers are worth to the business: the expected value of a row, by the costs that a policy gives."""

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from pipelines.domain.description import label_text
from pipelines.domain.sections import Section
from pipelines.domain.verdict import Verdict
from pipelines.evaluation.gates.quality.answers import ClassAnswers, Unmeasured
from pipelines.evaluation.gates.quality.intervals import estimated
from pipelines.evaluation.gates.quality.measures import MEAN, Found

if TYPE_CHECKING:
    import numpy as np


class Value(Section):
    """What answers cost the business: of classes by `costs`, of a regression by `over` and `under`."""

    costs: dict[str, dict[str, float]] = Field(
        {}, description="what an answer costs, by the true and the answered class; a gain is negative, no entry is 0"
    )
    over: float | None = Field(None, ge=0, description="what each unit costs by which a regression answers too much")
    under: float | None = Field(None, ge=0, description="what each unit costs by which it answers too little")
    minimum: float | None = Field(
        None, description="the least expected value of a row, which is its expected cost below 0; or it is only shown"
    )

    @field_validator("costs", mode="before")
    @classmethod
    def _as_texts(cls, given: Any) -> Any:
        """Take classes that are numbers or booleans, as YAML may read them."""
        if not isinstance(given, dict):
            return given
        rows = given.items()
        return {
            _text(key): {_text(each): v for each, v in row.items()} if isinstance(row, dict) else row
            for key, row in rows
        }

    @property
    def of_classes(self) -> bool:
        """Whether it says what answers of classes cost."""
        return bool(self.costs)

    @property
    def of_numbers(self) -> bool:
        """Whether it says what answers of a regression cost."""
        return self.over is not None or self.under is not None


def _text(label: Any) -> Any:
    return label_text(label) if isinstance(label, bool | int | float) else label


def worth_of_classes(answers: ClassAnswers, value: Value | None) -> Found | Unmeasured:
    """Return the expected value of a row by the costs of its answer."""
    import numpy as np

    if value is None or not value.of_classes:
        return Unmeasured(Verdict.NOT_APPLICABLE, "the policy gives no costs of answers (gates.quality.value)")
    named = {*value.costs, *(each for row in value.costs.values() for each in row)}
    unknown = sorted(named - set(answers.classes))
    if unknown:
        known = ", ".join(map(repr, answers.classes[:10]))
        why = f"the policy's costs name {unknown[0]!r}, and the classes are {known} (YAML reads a bare Yes as true)"
        return Unmeasured(Verdict.ERROR, why)
    costs = np.array([[value.costs.get(row, {}).get(each, 0.0) for each in answers.classes] for row in answers.classes])
    found = Found.of(estimated(MEAN, 0.0 - costs[answers.truth, answers.predicted], answers.truth))
    held = np.bincount(answers.truth, minlength=len(answers.classes)) / len(answers.truth)
    always = 0.0 - held @ costs
    best = int(always.argmax())
    beside = f", where always answering {answers.classes[best]!r} is worth {always[best]:.6g}"
    return Found(found.value, found.interval, beside=beside)


def worth_of_numbers(truth: "np.ndarray", values: "np.ndarray", value: Value | None) -> Found | Unmeasured:
    """Return the expected value of a row by how far a regression's value (n,) is off the truth (n,)."""
    import numpy as np

    if value is None or not value.of_numbers:
        said = "the policy gives no cost of a unit too much or too little (gates.quality.value)"
        return Unmeasured(Verdict.NOT_APPLICABLE, said)
    off = values - truth
    worth = 0.0 - np.where(off > 0, (value.over or 0.0) * off, (value.under or 0.0) * -off)
    return Found.of(estimated(MEAN, worth, truth))
