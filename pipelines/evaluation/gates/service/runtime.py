"""What a replica says that it runs with, read strictly."""

from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import DeployFailed
from pipelines.ports import ServiceProbe

_PATH = "/runtime"


class Runtime(BaseModel):
    """The answer of a replica; limits are bytes, processors and numbers of files, null where there is none."""

    model_config = ConfigDict(frozen=True)

    code: str
    python: str
    packages: dict[str, str | None]
    settings: tuple[str, ...]
    limits: dict[str, float | None]
    network: tuple[str, ...]
    network_namespace: str = ""
    secrets: tuple[str, ...]
    user: int
    peak_memory_bytes: int = Field(gt=0)


def ask_runtime(probe: ServiceProbe, url: str) -> Runtime | None:
    """Ask the replica at `url`; return None where it is of an earlier Slipway, which does not tell.

    Raises DeployFailed where it does not answer, or says something else.
    """
    answer = probe.get(f"{url}{_PATH}")
    if answer.status == HTTPStatus.NOT_FOUND:
        return None
    try:
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"it answers {answer.status}")
        return Runtime.model_validate(answer.body)
    except (ValidationError, ValueError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise DeployFailed(f"{url}{_PATH} does not say what the replica runs with: {why}") from error
