"""Estimators as people fit them in notebooks, on raw DataFrames of invented passengers."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

NUMBERS = ["age", "fare", "pclass"]
TEXTS = ["sex", "port"]


def passengers(rows: int = 240, seed: int = 5) -> pd.DataFrame:
    """Return passengers with gaps in their age and their port, and whether each survived."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "ticket": [f"T{seed}-{number}" for number in range(rows)],
            "age": draw.normal(38.0, 12.0, rows).round(2),
            "fare": draw.gamma(2.0, 15.0, rows).round(4),
            "pclass": draw.integers(1, 4, rows),
            "sex": draw.choice(["female", "male"], rows),
            "port": draw.choice(["C", "Q", "S"], rows),
        }
    )
    odds = 1.5 * (frame["sex"] == "female") - 0.6 * (frame["pclass"] - 2) + 0.02 * (frame["fare"] - 30.0)
    frame["survived"] = (draw.random(rows) < 1.0 / (1.0 + np.exp(-odds))).astype(int)
    frame.loc[::7, "age"] = np.nan
    frame.loc[::11, "port"] = None
    return frame


def preprocessing() -> ColumnTransformer:
    """Return the usual: gaps filled, numbers scaled, texts one-hot, and all other columns dropped."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", texts, TEXTS)], sparse_threshold=0)


def logistic() -> Any:
    """Return the model of most notebooks."""
    return make_pipeline(preprocessing(), LogisticRegression(max_iter=1000))


def forest() -> Any:
    """Return a forest on codes of texts that fills their gaps by a text of its own."""
    texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    )
    numbers = SimpleImputer(strategy="median")
    return make_pipeline(
        ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", texts, TEXTS)]),
        RandomForestClassifier(n_estimators=10, random_state=0),
    )


def gaps_as_they_are() -> Any:
    """Return an encoder that takes a missing text for one of its own."""
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_pipeline(
        ColumnTransformer([("numbers", "passthrough", NUMBERS), ("texts", texts, TEXTS)]),
        HistGradientBoostingClassifier(max_iter=20, random_state=0),
    )


def regression() -> Any:
    """Return a regression."""
    return make_pipeline(preprocessing(), Ridge())
