"""What would work in place of an estimator that does not: what is known of scikit-learn's and its converters."""

from typing import Any

from sklearn.base import is_classifier, is_regressor

from pipelines.training.parts import parts

WHAT_WORKS = "docs/reference/estimators.md lists what works"

# All of it stands in docs/reference/estimators.md, which is made by trying.
_CALIBRATE = "wrap {} by sklearn.calibration.CalibratedClassifierCV, as its estimator"
_SCALE = "put sklearn.preprocessing.MinMaxScaler before {}, in a Pipeline"
_KNOWN = {
    "CategoricalNB": "put BernoulliNB in the place of CategoricalNB",
    "ComplementNB": _SCALE.format("ComplementNB"),
    "LinearDiscriminantAnalysis": "put LogisticRegression in the place of LinearDiscriminantAnalysis",
    "LinearSVC": _CALIBRATE.format("LinearSVC"),
    "MultinomialNB": _SCALE.format("MultinomialNB"),
    "NuSVC": _CALIBRATE.format("NuSVC") + ", with ensemble: false",
    "OneVsOneClassifier": "put OneVsRestClassifier in the place of OneVsOneClassifier",
    "PassiveAggressiveClassifier": _CALIBRATE.format("PassiveAggressiveClassifier"),
    "Perceptron": _CALIBRATE.format("Perceptron"),
    "QuadraticDiscriminantAnalysis": "give QuadraticDiscriminantAnalysis reg_param: 0.1",
    "RadiusNeighborsClassifier": "put KNeighborsClassifier in the place of RadiusNeighborsClassifier",
    "RidgeClassifier": _CALIBRATE.format("RidgeClassifier"),
    "RidgeClassifierCV": _CALIBRATE.format("RidgeClassifier"),
    "SGDClassifier": "give SGDClassifier loss: log_loss",
    "SVC": _CALIBRATE.format("SVC") + ", with ensemble: false",
    "SelfTrainingClassifier": "take its estimator without SelfTrainingClassifier",
    "TunedThresholdClassifierCV": "take its estimator without TunedThresholdClassifierCV",
}


def advice(estimator: Any, *, otherwise: str = "choose another estimator in model.yaml") -> str:
    """Return what to change in model.yaml, by the parts of `estimator` of which something is known."""
    known = []
    for part in parts(estimator):
        name = type(part).__name__
        if name == "VotingClassifier" and part.voting == "hard":
            known.append(f"give {name} voting: soft")
        elif name == "CalibratedClassifierCV" and part.method == "isotonic":
            known.append(f"give {name} method: sigmoid")
        elif name in _KNOWN and not (name == "SGDClassifier" and hasattr(part, "predict_proba")):
            known.append(_KNOWN[name])
    return "; ".join([*(dict.fromkeys(known) or [otherwise]), WHAT_WORKS])


def named(estimator: Any) -> str:
    """Return the names of the classes that answer in `estimator`, without those that only pass on."""
    answering = [part for part in parts(estimator) if is_classifier(part) or is_regressor(part)]
    asked = "predict_proba" if any(hasattr(part, "predict_proba") for part in answering) else "predict"
    names = {type(part).__name__ for part in answering if hasattr(part, asked)} - {"Pipeline"}
    return ", ".join(sorted(names))
