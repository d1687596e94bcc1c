"""A registered version and where it stands in its life."""

from dataclasses import dataclass, field
from enum import StrEnum


class Lifecycle(StrEnum):
    """What people read on a version: the `lifecycle` tag."""

    CANDIDATE = "Candidate"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"
    ROLLED_BACK = "RolledBack"
    REJECTED = "Rejected"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version as the registry knows it: `source` is where its ONNX model lies, `description` what people wrote."""

    model: str
    version: str
    run_id: str
    source: str
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""
