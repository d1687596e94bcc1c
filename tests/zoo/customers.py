"""Invented customers, drawn from one known law: whatever a model gets wrong beyond chance is its own fault."""

import numpy as np
import pandas as pd

REGIONS = ("east", "north", "south", "west")
PLANS = ("basic", "plus", "pro")
NUMBERS = ("age", "income", "tenure", "calls")
CATEGORIES = ("gender", "plan", "region")
LEFT, SPEND, TIER = "left", "spend", "tier"
TARGETS = (LEFT, SPEND, TIER)


def customers(rows: int, seed: int, *, shift: float = 0.0) -> pd.DataFrame:
    """Return so many customers with what is to be predicted of them: whether they left, their spend, their tier.

    With a `shift` they are another population, older by so many standard deviations and with more income, in which the
    law is the same.
    """
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": (draw.normal(45, 12, rows) + 12 * shift).round(1),
            "income": (np.exp(draw.normal(3.6, 0.5, rows)) * (1 + 0.6 * shift)).round(2),
            "tenure": draw.gamma(2.0, 12.0, rows).round(2),
            "calls": draw.poisson(2.0, rows).astype(float),
            "gender": draw.choice(("f", "m"), rows),
            "plan": draw.choice(PLANS, rows, p=(0.5, 0.3, 0.2)),
            "region": draw.choice(REGIONS, rows),
        }
    )
    tendency = (
        0.05 * (frame["age"] - 45)
        - 0.04 * (frame["tenure"] - 24)
        + 0.5 * (frame["calls"] - 2)
        + 0.9 * (frame["plan"] == "basic")
        + 0.7 * ((frame["region"] == "east") & (frame["plan"] == "pro"))
        - 0.4
    )
    odds = np.asarray(2.2 * tendency, dtype=float)
    frame[LEFT] = np.where(draw.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no")
    frame[SPEND] = (60 + 14 * tendency + 0.3 * frame["income"] + draw.normal(0, 8, rows)).round(2)
    levels = np.stack([np.zeros(rows), odds, 0.09 * (np.asarray(frame["income"]) - 38) - 0.3], axis=1)
    frame[TIER] = np.array(["bronze", "gold", "silver"])[(levels + draw.gumbel(size=levels.shape)).argmax(axis=1)]
    return frame
