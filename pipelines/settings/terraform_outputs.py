"""What Terraform says of an installation on containers: its output `stack`, read strictly wherever it is used.

The executor and the API get the same as a file. The one place that makes it is infra/main.tf.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.domain.release import Environment, Slot
from pipelines.errors import UsageError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SlotService(_Part):
    """The service of a slot."""

    name: str


class EndpointOutputs(_Part):
    """A model in an environment: its services, and where load and clients reach it."""

    load_urls: dict[Slot, str]
    replicas: int
    slots: dict[Slot, SlotService]
    url: str


class ModelOutputs(EndpointOutputs):
    """A further model in an environment, which has a backend of its own in the edge."""

    backend: str


class EnvironmentOutputs(EndpointOutputs):
    """An environment: its networks, and what the default model has in it.

    `models` are the further ones, by name; an installation that an earlier Slipway brought up has none.
    """

    load_network: str
    models: dict[str, ModelOutputs] = {}
    network: str


class Edge(_Part):
    """The edge, which is a container of its own or a service."""

    container: str | None
    service: str | None

    @property
    def name(self) -> str:
        """The name of the one that it is."""
        return self.container or self.service or ""


class ImageRegistry(_Part):
    """Where images are pulled by engines and pushed by the executor."""

    authority_file: Path | None
    plain_http: bool
    pull: str
    push: str


class Images(_Part):
    """The images that releases and load runs are made of."""

    app: str
    loadtest: str


class BucketNames(_Part):
    """The buckets of the object store, by what they hold."""

    artifacts: str
    dvc: str
    heads: str


class ObjectStore(_Part):
    """The object store: `endpoint` is its address for services, `url` that for this machine."""

    buckets: BucketNames
    endpoint: str
    region: str
    url: str


class ServiceNames(_Part):
    """The services that are no slots; an external object store has none."""

    api: str
    database: str
    executor: str
    model_registry: str
    object_store: str | None


class Urls(_Part):
    """What people open."""

    api: str
    mlflow: str


class StackOutputs(_Part):
    """Names and addresses of one installation; one that an earlier Slipway brought up has no id yet."""

    edge: Edge
    environments: dict[Environment, EnvironmentOutputs]
    image_registry: ImageRegistry
    images: Images
    installation_id: str | None = None
    object_store: ObjectStore
    prefix: str
    services: ServiceNames
    urls: Urls


def read_stack(body: object, *, source: str) -> StackOutputs:
    """Return the output `stack`; raise UsageError with what differs from its form, naming where it was read."""
    try:
        # As JSON, where an enum is a text.
        return StackOutputs.model_validate_json(json.dumps(body))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{source} is not what this Slipway reads: {place}: {first['msg']}",
            next='"make up" with this Slipway, which writes it anew',
        ) from error


def describe_stack() -> dict[str, Any]:
    """Return the JSON Schema of the output."""
    return StackOutputs.model_json_schema()
