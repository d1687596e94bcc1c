"""Wires the target of containers: the operator's view of an installation, and that of the processes inside.

The latter are told of their installation by the output of Terraform that `settings.runtime` carries.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipelines.adapters.backup.swarm_place import NOTE, SwarmPlace
from pipelines.adapters.containers.executor_inside import ExecutorInside
from pipelines.adapters.containers.external_services import ExternalServices
from pipelines.adapters.containers.infra_file import read_choices
from pipelines.adapters.containers.maintenance_hold import MaintenanceHold
from pipelines.adapters.containers.needs import InstallationOptions
from pipelines.adapters.containers.swarm_installation import LOCK, SwarmInstallation
from pipelines.adapters.containers.terraform import Terraform, find_settings
from pipelines.adapters.home_lock import is_held
from pipelines.adapters.images import build as images
from pipelines.adapters.images.release_images import ImageRegistry, ReleaseImages, find_app
from pipelines.adapters.jobs.container import ContainerJobs
from pipelines.adapters.jobs.files import PROGRAM
from pipelines.adapters.load.job import LoadJob
from pipelines.adapters.load.networks import LoadFront, LoadNetworks
from pipelines.adapters.load.swarm import LoadSwarm
from pipelines.adapters.storage.checkpoints_s3 import S3Checkpoints
from pipelines.adapters.storage.object_store import S3Access
from pipelines.adapters.swarm.edge_socket import EdgeSocket
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.services import SwarmServices, services_of_stack
from pipelines.adapters.swarm.target import SwarmTarget
from pipelines.api.client import ApiClient, executor_silence
from pipelines.disk import write_whole
from pipelines.domain.backup import Manifest
from pipelines.domain.release import Environment, Slot
from pipelines.errors import DeployFailed, UsageError
from pipelines.ports import BackupPlace, Checkpoints, DataRemote, JobRunner, LoadRunner, Records, Target
from pipelines.releases.services import Timing
from pipelines.settings.installation import installation_id, kept_models
from pipelines.settings.models import model_name
from pipelines.settings.runtime import Runtime
from pipelines.settings.settings import ROOT, Settings
from pipelines.settings.terraform_outputs import EndpointOutputs, StackOutputs
from pipelines.wiring.stores import open_bundles

CRANE = Path("/usr/local/bin/crane")
ENGINE_URL = "unix:///var/run/docker.sock"
LOAD_PATH = "edge"
# Built when a version is converted, and no part of an installation.
CONVERT_IMAGE, CONVERT_PROGRAM = "convert", "pipelines.adapters.mlflow.conversion"
# As infra/images/postgres has it: an older server does not read the dumps of a newer one.
BACKUP_FORMATS: Mapping[str, int | str] = {"postgresql": 17}
# So long the executor waits at its start until "slipway up" has pushed the app's image.
APP_S = 600.0
APP_POLL_S = 1.0


def open_installation(settings: Settings, environ: Mapping[str, str]) -> SwarmInstallation:
    """Open the installation on containers of this home."""
    choices = read_choices(settings.infra_file, settings.home / "infra.json")
    outside = ExternalServices(choices.object_store, choices.image_registry, settings.s3_keys, settings.registry_login)

    def build(report_progress: Callable[[str], None]) -> Mapping[str, str]:
        names = [name for name in images.image_names(ROOT) if name not in {*outside.images, CONVERT_IMAGE}]
        return images.build_images(ROOT, names, report_progress=report_progress, environ=environ)

    work = settings.home / "terraform"
    url = engine_url(environ)
    executor = ExecutorInside(DockerEngine(url), settings.prefix)
    return SwarmInstallation(
        InstallationOptions(
            model=model_name(settings.project),
            model_file=settings.project / "model.yaml",
            models=lambda: [model.name for model in settings.models[1:]],
            removed=lambda: [model.name for model in kept_models(settings.home) if model.removed],
            model_sizes=choices.models,
            ports={
                "api": settings.api_port,
                "images": settings.images_port,
                "mlflow": settings.mlflow_port,
                "production": settings.production_port,
                "s3": settings.s3_port,
                "staging": settings.staging_port,
            },
            prefix=settings.prefix,
            installation_id=installation_id(settings),
            binding=settings.binding,
            authority=settings.authority_file,
            engine_url=url,
            retention_days=choices.retention_days,
            outside=outside,
            encrypted=choices.encrypted_networks,
            more=choices.variables,
        ),
        settings.home,
        Terraform(ROOT / "infra", work, environ, find_settings(environ, ROOT)),
        build,
        hold=MaintenanceHold(
            partial(ApiClient, settings), executor_silence, settings.home, settings.tokens_file, work=executor.work
        ),
    )


def is_being_changed(settings: Settings) -> bool | None:
    """Look whether somebody holds the home's lock."""
    return is_held(settings.home / LOCK)


def open_secrets(settings: Settings, environ: Mapping[str, str]) -> SwarmInstallation:
    """Open the secrets, which the installation keeps itself."""
    return open_installation(settings, environ)


def open_backup_place(settings: Settings, environ: Mapping[str, str]) -> BackupPlace:
    """Open the installation's databases, object store, volume and home."""
    return SwarmPlace(
        DockerEngine(engine_url(environ), timeout_s=120.0),
        settings.prefix,
        settings.home.resolve(),
        lambda home: open_installation(replace(settings, home=home), environ),
    )


def note_restored(settings: Settings, manifest: Manifest) -> None:
    """Leave a note of what a home is restored from, which the first executor takes into the records."""
    write_whole(settings.home / NOTE, json.dumps(manifest.origin()))


def take_note_of_restore(settings: Settings, records: Records) -> None:
    """Write into the records what they were restored from, if they were just now."""
    note = settings.home / NOTE
    if note.exists():
        with records.write() as transaction:
            transaction.audit(
                "operator",
                "restore",
                "outcome",
                subject=installation_id(settings) or "",
                detail=json.loads(note.read_text()),
            )
        note.unlink()


def open_data_remote(settings: Settings, environ: Mapping[str, str]) -> DataRemote:
    """Open the bucket of DVC's data; raise UsageError while nothing runs."""
    return open_installation(settings, environ).data_remote()


def find_staging_load(
    settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]
) -> Callable[[], LoadRunner] | None:
    """Return what opens the way to load staging's live slot inside of the Swarm, from the operator's machine."""
    return partial(_open_staging_load, settings, environ, report_progress)


def open_checkpoints(settings: Settings) -> Checkpoints:
    """Open the audit chain's checkpoints in the locked bucket."""
    runtime = _runtime(settings)
    store, login = runtime.stack.object_store, runtime.objects
    access = S3Access(store.endpoint, login.user, login.password, region=store.region)
    return S3Checkpoints(access, store.buckets.heads)


def open_target(settings: Settings) -> Target:
    """Open the Swarm for who only looks, from inside of the executor's container."""
    return _opened(settings, only_looks=True)


def _opened(settings: Settings, *, only_looks: bool = False) -> Target:
    stack = _runtime(settings).stack
    engine = DockerEngine(ENGINE_URL)
    place = stack.image_registry
    registry = ImageRegistry(
        here=place.push, engines=place.pull, app="", plain_http=place.plain_http, authority=place.authority_file
    )
    records = settings.home / "images"
    registry = replace(registry, app=find_app(CRANE, registry, stack.images.app, records))
    return SwarmTarget(
        SwarmServices(engine, services_of_stack(stack, model_name(settings.project))),
        ReleaseImages(CRANE, registry, open_bundles(settings).path, records=records, engine=engine),
        EdgeSocket(engine, stack.edge.name),
        only_looks=only_looks,
    )


def await_target(settings: Settings, show_life: Callable[[], None]) -> Target:
    """Open the Swarm once the app's image is in the registry: bringing all up puts it there after the executor's start.

    Calls `show_life` meanwhile; raises DeployFailed after APP_S without the image.
    """
    deadline = time.monotonic() + APP_S
    while True:
        try:
            return _opened(settings)
        except DeployFailed:
            if time.monotonic() > deadline:
                raise
        show_life()
        time.sleep(APP_POLL_S)


def cap_logs(settings: Settings) -> None:
    """Do nothing: the engine keeps a few files of bounded size."""


def open_loads(settings: Settings) -> LoadRunner:
    """Run load inside of the Swarm."""
    stack = _runtime(settings).stack
    return LoadJob(_load_swarm(stack, DockerEngine(ENGINE_URL), owner="executor"), LoadNetworks.of_stack(stack))


def open_jobs(settings: Settings) -> JobRunner:
    """Run confined jobs as containers of the engine that the executor runs on."""
    return ContainerJobs(DockerEngine(ENGINE_URL), _runtime(settings).stack.prefix)


def open_reader(settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]) -> JobRunner:
    """Run confined jobs as containers of the operator's engine, made of the image of the executor."""
    return _operators_jobs(settings, environ, report_progress, "control", PROGRAM)


def open_converter(settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]) -> JobRunner:
    """Run conversions as such containers, made of an image with what fits and exports models, built when needed."""
    return _operators_jobs(settings, environ, report_progress, CONVERT_IMAGE, CONVERT_PROGRAM)


def _operators_jobs(
    settings: Settings,
    environ: Mapping[str, str],
    report_progress: Callable[[str], None],
    image: str,
    program: str,
) -> JobRunner:
    built = images.build_images(ROOT, [image], report_progress=report_progress, environ=environ)
    return ContainerJobs(DockerEngine(engine_url(environ)), settings.prefix, image=built[image], program=program)


def timing() -> Timing:
    """Return the deadlines of a Swarm: a look costs several calls, and it has a deadline of its own, by replicas."""
    return Timing(poll_s=0.25, converge_s=600.0)


def _open_staging_load(
    settings: Settings, environ: Mapping[str, str], report_progress: Callable[[str], None]
) -> LoadJob:
    installation = open_installation(settings, environ)
    stack = installation.outputs()
    staging = stack.environments[Environment.STAGING]
    places: dict[str, EndpointOutputs] = {settings.model().name: staging, **staging.models}
    fronts = {
        settings.address(settings.endpoint(Environment.STAGING, model.name)): LoadFront(
            staging.load_network, places[model.name].load_urls[Slot.LIVE]
        )
        for model in settings.models
        if model.name in places
    }
    swarm = _load_swarm(stack, installation.entered_engine(), owner="operator")
    return LoadJob(swarm, LoadNetworks(fronts), report_progress=report_progress)


def _runtime(settings: Settings) -> Runtime:
    """Return what the processes inside are told; raise UsageError anywhere else."""
    if settings.runtime is None:
        raise UsageError("this is for a container of the installation only", next="leave it to the executor")
    return settings.runtime


def engine_url(environ: Mapping[str, str]) -> str:
    """Return where the operator's engine listens; an empty DOCKER_HOST means the same as none."""
    return environ.get("DOCKER_HOST") or ENGINE_URL


def _load_swarm(stack: StackOutputs, engine: DockerEngine, *, owner: str) -> LoadSwarm:
    repository = f"{stack.image_registry.pull}/slipway/loadtest"
    return LoadSwarm(engine, stack.prefix, stack.images.loadtest, repository, owner=owner)
