"""Opens what an installation keeps: records, bundles, and the model registry."""

import ssl
from collections.abc import Mapping
from pathlib import Path

from pipelines.adapters.database.lost_files import RECORDS, refuse_lost
from pipelines.adapters.database.records import SqlRecords, upgrade_file
from pipelines.adapters.mlflow.versions import MlflowVersions
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.ports import Checkpoints, ModelRegistry
from pipelines.settings.settings import Settings
from pipelines.wiring.targets import wiring_of


def open_records(settings: Settings) -> SqlRecords:
    """Open Slipway's own state and its checkpoints.

    Raises OlderTables, or UsageError for those of a newer Slipway, or for a home that has lost its records.
    """
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_lost(settings)
    return SqlRecords(settings.database_url, open_checkpoints(settings))


def upgrade_tables(settings: Settings) -> None:
    """Bring the tables in a home up to date, once no process of an older Slipway uses them.

    Raises UsageError for those of a newer Slipway, or for a home that has lost its records.
    """
    _refuse_lost(settings)
    upgrade_file(settings.database_url)


def open_checkpoints(settings: Settings) -> Checkpoints:
    """Open the audit chain's checkpoints."""
    return wiring_of(settings.target).open_checkpoints(settings)


def open_versions(settings: Settings) -> MlflowVersions:
    """Connect to the registry for reading, without MLflow's own library."""
    return MlflowVersions(settings.mlflow_url, login=_mlflow_login(settings))


def open_registry(settings: Settings) -> ModelRegistry:
    """Connect to the model registry (imports MLflow, which takes seconds)."""
    from pipelines.adapters.mlflow.registry import MlflowModelRegistry

    return MlflowModelRegistry(settings.mlflow_url, login=_mlflow_login(settings))


def open_registry_as(settings: Settings, trainer: Mapping[str, str]) -> ModelRegistry:
    """Connect to the model registry from the operator's machine, with what the installation gives a trainer."""
    from pipelines.adapters.mlflow.registry import MlflowModelRegistry

    login = (trainer["MLFLOW_TRACKING_USERNAME"], trainer["MLFLOW_TRACKING_PASSWORD"]) if trainer else None
    authority = settings.authority_file
    trust = ssl.create_default_context(cafile=authority) if authority else True
    return MlflowModelRegistry(settings.mlflow_url, login=login, trust=trust)


def open_bundles_in(folder: Path) -> BundleStore:
    """Open a store of bundles that nobody else uses."""
    return BundleStore(folder)


def open_bundles(settings: Settings) -> BundleStore:
    """Open the store of bundles."""
    return BundleStore(settings.home / "bundles")


def _refuse_lost(settings: Settings) -> None:
    """Raise UsageError where the records were in a file that is lost; with a runtime they are a server's."""
    if settings.runtime is None:
        refuse_lost(settings.home, RECORDS)


def _mlflow_login(settings: Settings) -> tuple[str, str] | None:
    guard = settings.runtime.mlflow if settings.runtime else None
    return (guard.user, guard.password) if guard else None
