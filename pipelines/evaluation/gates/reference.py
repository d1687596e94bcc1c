"""The reference of gates and of the policy, written from the registry."""

from typing import Any

from pipelines.domain.policy import Approvals, EvaluationBounds, Production
from pipelines.domain.sections import Section
from pipelines.evaluation.gates.gate import NoLimits, OnSets
from pipelines.evaluation.gates.registry import GATES, AnyGate

_HEAD = """# Gates

In the order in which a version meets them. This page is written from the gates themselves by `make reference`.

A gate answers passed, failed, inconclusive, error or not applicable; only passed and not applicable go on. A key that a
policy leaves out has the default given here.
"""


def describe_gates() -> str:
    """Return the page about all gates, as Markdown."""
    parts = [_HEAD, *(_described(gate) for gate in GATES.all), "## Beside the gates\n"]
    beside = {"approvals": Approvals, "production": Production, "evaluation": EvaluationBounds}
    parts += [_table(section(), name) for name, section in beside.items()]
    return "\n".join(parts)


def describe_policy() -> dict[str, Any]:
    """Return the JSON Schema of a policy of today's version."""
    schema: dict[str, Any] = _without_null(GATES.policy_model.model_json_schema())
    return schema


def _described(gate: AnyGate) -> str:
    needs = ", ".join(sorted(gate.needs)) or "the bundle alone"
    absent = f" Where one is absent, the gate does not apply: {gate.unless}." if gate.unless else ""
    override = "can be overridden by name, with a reason" if gate.overridable else "can't be overridden"
    sets = "" if gate.on_sets is OnSets.NONE else f" Of a policy's further sets it is measured on {gate.on_sets}."
    text = f"## {gate.name}\n\n{gate.description}\n\nNeeds: {needs}.{absent} It {override}.{sets}\n"
    return text if gate.limits is NoLimits else f"{text}\n{_table(gate.limits(), gate.place)}"


def _table(section: Section, place: str) -> str:
    rows = []
    for key, field in type(section).model_fields.items():
        default = section.as_json().get(key, "none")
        shown = ", ".join(map(_short, default)) if isinstance(default, list) else _short(default)
        rows.append(f"| `{place}.{key}` | {shown} | {field.description} |")
    return "\n".join(["| key | default | limits |", "|---|---|---|", *rows, ""])


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(each)}" for key, each in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_null(schema: Any) -> Any:
    """Drop null from all choices: an empty key is refused, and what limits nothing is left out."""
    if isinstance(schema, list):
        return [_without_null(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _without_null(value) for key, value in schema.items() if not (key == "default" and value is None)}
    choices = kept.get("anyOf", [])
    return {**{k: v for k, v in kept.items() if k != "anyOf"}, **choices[0]} if len(choices) == 1 else kept
