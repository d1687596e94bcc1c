"""What is read of MLflow's answers; whatever else stands in them is passed over."""

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True)


class Refusal(Answer):
    """Why something was not done."""

    error_code: str = ""
    message: str = ""


class Done(Answer):
    """Something was done."""


class Tag(Answer):
    """A tag of a version or of a run."""

    key: str
    value: str = ""


class Version(Answer):
    """A version of a registered model; `source` is where its model lies."""

    name: str = ""
    version: str = Field(pattern=r"^[0-9]{1,9}$")
    run_id: str | None = None
    source: str = ""
    tags: tuple[Tag, ...] = ()
    description: str | None = None


class OneVersion(Answer):
    """The version that was asked for."""

    model_version: Version


class Pointed(Answer):
    """The version that an alias points at, of which nothing else counts."""

    version: str = Field(pattern=r"^[0-9]{1,9}$")


class Registered(Answer):
    """When a version was registered, in milliseconds, of which nothing else counts."""

    creation_timestamp: int


class OneRegistered(Answer):
    """The version whose time was asked for."""

    model_version: Registered


class OnePointed(Answer):
    """The version at the alias that was asked for."""

    model_version: Pointed


class Origin(Answer):
    """The model and number of a version."""

    name: str
    version: str


class Origins(Answer):
    """The beginning of a list of versions."""

    model_versions: tuple[Origin, ...] = ()


class Versions(Answer):
    """Versions, as many as were asked for."""

    model_versions: tuple[Version, ...] = ()


class Alias(Answer):
    """A name that points at a version."""

    alias: str
    version: str


class RegisteredModel(Answer):
    """A registered model."""

    aliases: tuple[Alias, ...] = ()


class OneModel(Answer):
    """The registered model that was asked for."""

    registered_model: RegisteredModel


class RunInfo(Answer):
    """Where a run belongs, and where its files are said to lie."""

    experiment_id: str = ""
    artifact_uri: str = ""


class RunData(Answer):
    """What was logged."""

    tags: tuple[Tag, ...] = ()


class Run(Answer):
    """A run."""

    info: RunInfo
    data: RunData = RunData()


class OneRun(Answer):
    """The run that was asked for."""

    run: Run


class LoggedModelInfo(Answer):
    """A model that a run has logged, and where its files are said to lie."""

    model_id: str
    name: str = ""
    artifact_uri: str = ""
    source_run_id: str = ""


class LoggedModel(Answer):
    """A logged model."""

    info: LoggedModelInfo


class OneLoggedModel(Answer):
    """The logged model that was asked for."""

    model: LoggedModel


class LoggedModels(Answer):
    """Logged models, in the order that was asked for."""

    models: tuple[LoggedModel, ...] = ()
