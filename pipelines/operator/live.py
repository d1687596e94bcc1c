"""What is known of the requests that are served, as the terminal shows it."""

from typing import Any

from pipelines.operator.tables import render

_DRIFT_COLUMNS = (
    "feature", "type", "distance", "low", "high", "missing before", "missing now", "before", "now", "found",
)  # fmt: skip
_UNDECIDED = ("inconclusive", "error")


def live_told(body: dict[str, Any]) -> str:
    """Return what each version was asked on each day, how well it answered where labels are known, and drift."""
    if not body["windows"]:
        return f"no request of {body['model']} was sampled yet; the policy's requests.rate says how many are"
    rows = []
    for each in body["windows"]:
        quality = each["quality"] or {}
        rows.append(
            (
                each["day"],
                each["environment"],
                f"v{each['version']}",
                f"{each['seen']:,}",
                f"{each['kept']:,}",
                f"{each['dropped']:,}" + (f" ({each['lost']} replicas gone)" if each["lost"] else ""),
                _distribution(each["scores"]),
                _quality(quality),
            )
        )
    table = render(("day", "environment", "version", "seen", "kept", "dropped", "answers", "quality by labels"), rows)
    if body["more"]:
        table += f"\nolder ones are not shown: GET /api/v1/live?before={body['windows'][0]['id']}"
    return f"{table}\n\n{_summary(body['drift'])}"


def drift_told(body: dict[str, Any]) -> str:
    """Return what the last look at drift has found, of each feature."""
    told, look = _summary(body["drift"]), body["drift"]["look"]
    if not look:
        return told
    rows = [_feature_row(each, look) for each in look["features"]]
    if rows:
        told += "\n\n" + render(_DRIFT_COLUMNS, rows)
    if look["of_features"] > len(rows):
        told += f"\n{look['of_features'] - len(rows)} more have moved less"
    if look["not_measured"]:
        told += "\nnot measured: " + ", ".join(f"{each['name']} ({each['why']})" for each in look["not_measured"])
    return told


def _summary(drift: dict[str, Any]) -> str:
    look = drift["look"]
    if look is None:
        return "drift of what production is asked: not measured yet"
    version = f"version {look['version']}" if look["version"] else "production"
    told = f"drift of what {version} was asked in {look['hours']:g} h before {look['at']}: {look['seen'].upper()}"
    standing = "\nit had drifted when there were rows enough" if drift["drifted"] and look["seen"] in _UNDECIDED else ""
    return f"{told}\n{look['why']}{standing}"


def _feature_row(each: dict[str, Any], look: dict[str, Any]) -> tuple[str, ...]:
    span = each["distance"]
    numbers = (span["value"], span["low"], span["high"], each["missing_before"], each["missing_now"])
    found = "drifted" if each["name"] in look["drifted"] else "" if each["judged"] else "shown only"
    shown = (f"{number:.3f}" for number in numbers)
    return (each["name"], each["type"], *shown, each["typical_before"], each["typical_now"], found)


def _distribution(scores: dict[str, Any]) -> str:
    if scores["mean"] is not None:
        deviation = scores["deviation"]
        return f"{scores['mean']:.4g}" + (f" +- {deviation:.3g}" if deviation is not None else "")
    counts = scores["classes"] or {}
    total = sum(counts.values())
    often = sorted(counts.items(), key=lambda each: -each[1])[:3]
    return ", ".join(f"{name} {count / total:.1%}" for name, count in often)


def _quality(quality: dict[str, Any]) -> str:
    """Return the metrics that there are, and on how many rows."""
    if not quality:
        return ""
    shown = []
    if quality["accuracy"] is not None:
        low, high = quality["accuracy_low"], quality["accuracy_high"]
        shown.append(f"accuracy {quality['accuracy']:.3f} ({low:.3f} to {high:.3f})")
    names = {"auc": "AUC", "rmse": "RMSE", "mae": "MAE", "r2": "R2"}
    shown += [f"{name} {quality[key]:.3g}" for key, name in names.items() if quality[key] is not None]
    return f"{', '.join(shown)}, on {quality['labelled']:,} rows"
