"""The settings of one replica, read once from the environment it was started with."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import SettingsError

PREFIX = "SLIPWAY_"


class SampledBy(StrEnum):
    """Where the executor asks for sampled requests: on the private socket, or on the only port, behind an edge."""

    SOCKET = "socket"
    NETWORK = "network"


class Settings(BaseModel):
    """What a replica serves and as what; without `bundle_dir` it is alive and has no release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = "Staging"
    bundle_dir: Path | None = None
    bundle_digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    model: str | None = None
    version: str | None = None
    # One access line for so many requests; a line each would cost more than scoring does.
    access_log_every: int = Field(default=1000, ge=1)
    sampled_by: SampledBy = SampledBy.SOCKET

    @model_validator(mode="after")
    def _release_is_complete(self) -> Self:
        names = ("bundle_digest", "model", "version")
        missing = [PREFIX + name.upper() for name in names if not getattr(self, name)]
        if self.bundle_dir is not None and missing:
            raise ValueError(f"{PREFIX}BUNDLE_DIR is set, but not {', '.join(missing)}")
        return self

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Return the settings; raise SettingsError naming the variables that are wrong.

        An empty variable counts as absent. Other variables are not looked at: a replica inherits some.
        """
        values = {name: environ.get(PREFIX + name.upper(), "") for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in values.items() if value})
        except ValidationError as error:
            reasons = (
                ": ".join([*(PREFIX + str(part).upper() for part in each["loc"]), each["msg"]])
                for each in error.errors(include_url=False)
            )
            raise SettingsError("; ".join(reasons)) from error
