"""Which rows one of two models answers rightly and the other does not, and what that proves."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.domain.verdict import Table

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Discordant:
    """Of so many rows, how many both answer rightly, we alone, they alone, and neither."""

    both: int
    ours: int
    theirs: int
    neither: int

    @classmethod
    def of(cls, ours: "np.ndarray", theirs: "np.ndarray") -> "Discordant":
        """Count the rows by who answers them rightly, (n,) each."""
        both, alone, others = int((ours & theirs).sum()), int((ours & ~theirs).sum()), int((~ours & theirs).sum())
        return cls(both, alone, others, len(ours) - both - alone - others)

    @property
    def rows(self) -> int:
        """All of them."""
        return self.both + self.ours + self.theirs + self.neither

    @property
    def difference(self) -> float:
        """How much higher our accuracy is."""
        return (self.ours - self.theirs) / self.rows

    @property
    def p(self) -> float:
        """The two-sided p-value of McNemar's exact test (1947): a row that divides us is ours with a chance of 1/2."""
        from scipy.special import bdtr

        decided = self.ours + self.theirs
        return float(min(1.0, 2 * bdtr(min(self.ours, self.theirs), decided, 0.5)))

    @property
    def bounds(self) -> tuple[float, float]:
        """The one-sided 95 % bounds of the difference, given how many rows divide us (Clopper & Pearson 1934)."""
        from scipy.special import betaincinv

        decided = self.ours + self.theirs
        low = float(betaincinv(self.ours, self.theirs + 1, 0.05)) if self.ours else 0.0
        high = float(betaincinv(self.ours + 1, self.theirs, 0.95)) if self.theirs else 1.0
        return (2 * low - 1) * decided / self.rows, (2 * high - 1) * decided / self.rows

    @property
    def table(self) -> Table:
        """How many rows production answers rightly or wrongly, by our answer."""
        columns = ("candidate", "production right", "production wrong")
        return Table(columns, (("right", self.both, self.ours), ("wrong", self.theirs, self.neither)))
