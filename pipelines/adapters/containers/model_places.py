"""Where the further models of an installation are: what stands for each in names, and which load ports are its own.

A model keeps both for as long as it is there, whatever other models come and go: what is there already is not replaced.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

from pipelines.errors import UsageError

# As infra/variables.tf has them: the longest name of a service has 63 characters, and there are no more load ports.
_KEY_LENGTH = 18
_MOST = 49
_HASH_LENGTH = 6


def key_of(model: str) -> str:
    """Return what stands for a model in the names of services: its name if that can, else a part of it and a hash."""
    slug = re.sub("[^a-z0-9]+", "-", model.lower()).strip("-")
    if slug == model and len(slug) <= _KEY_LENGTH:
        return slug
    begin = slug[: _KEY_LENGTH - _HASH_LENGTH - 1].rstrip("-")
    return f"{begin}-{hashlib.sha256(model.encode()).hexdigest()[:_HASH_LENGTH]}"


def left_models(kept: Mapping[str, Any], known: Collection[str], removed: Collection[str]) -> list[str]:
    """Return the models that have services, as `kept` says, and no known project, though nobody has removed them.

    So it is where the record of a home was lost: what they serve goes on.
    """
    return sorted(set(kept).difference(known, removed))


def places_of(
    models: Sequence[str], kept: Mapping[str, Any], sizes: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return Terraform's variable `models`, where `kept` is the one of before and `sizes` are chosen by the operator.

    Raises UsageError for more models than there are load ports for.
    """
    numbers = {model: int(kept[model]["number"]) for model in models if model in kept}
    for model in models:
        if model not in numbers:
            numbers[model] = next(number for number in count(1) if number not in numbers.values())
    if len(models) > _MOST:
        raise UsageError(
            f"an installation on containers has at most {_MOST} models beside the default one, not {len(models)}",
            next="remove one, or give some an installation of their own: another SLIPWAY_HOME, _PREFIX and _PORT_*",
        )
    return {
        model: {"environments": dict(sizes.get(model, {})), "key": key_of(model), "number": numbers[model]}
        for model in models
    }
