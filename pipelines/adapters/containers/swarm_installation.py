"""The installation on containers, from the operator's side: Terraform provisions it, this what Terraform must not.

That is the secrets, whose values never come near Terraform, and what lives inside of the services: buckets, users, the
edge's configuration in force. All of it may be repeated; after a failure or a kill, `up` goes on from there.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.containers.engine_secrets import DockerSecrets
from pipelines.adapters.containers.external_services import left_outside
from pipelines.adapters.containers.image_place import ImagePlace
from pipelines.adapters.containers.maintenance_hold import MaintenanceHold
from pipelines.adapters.containers.needs import InstallationOptions, Needs
from pipelines.adapters.containers.node_traffic import NodeTraffic
from pipelines.adapters.containers.provisioning import Provisioning
from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.adapters.containers.terraform import Terraform
from pipelines.adapters.containers.tls_secrets import TlsSecrets
from pipelines.adapters.home_lock import held
from pipelines.adapters.load.swarm import LoadSwarm
from pipelines.adapters.storage.dvc_remote import DvcRemote
from pipelines.adapters.storage.object_store import Buckets, S3Access
from pipelines.adapters.swarm.edge_socket import EdgeSocket
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.engine_check import check_engine
from pipelines.errors import DeployFailed, SlipwayError, Undecided, UsageError
from pipelines.settings.terraform_outputs import Edge, StackOutputs, read_stack

# Held by the process that changes the installation of a home.
LOCK = "docker.lock"
# Whose ports do not answer while only data is there.
_SERVING = frozenset({"api", "mlflow", "production", "staging"})
# The note in the engine that says whose installation it is.
_OWNER = "owner"
# A process that is run in a container has none of the variables that its first one got from secrets.
_DOCTOR = ["with-secrets", "--", "python", "-m", "pipelines.cli", "doctor", "--json"]

ProgressReporter = Callable[[str], None]


class SwarmInstallation:
    """One installation: `build` makes the images, name -> id, and `home` keeps state and secrets."""

    def __init__(
        self,
        options: InstallationOptions,
        home: Path,
        terraform: Terraform,
        build: Callable[[ProgressReporter], Mapping[str, str]],
        *,
        hold: MaintenanceHold,
    ) -> None:
        self._options = options
        self._lock = home / LOCK
        self._edge_record = home / "edge.sha256"
        self._dvc_directory = home / "dvc"
        self._terraform = terraform
        self._hold = hold
        self._engine = DockerEngine(options.engine_url, timeout_s=120.0)
        self._docker_secrets = DockerSecrets(self._engine, options.prefix)
        self._parts = EngineParts(self._engine, options.prefix)
        self._loads = LoadSwarm(self._engine, options.prefix)
        self._traffic = NodeTraffic(self._engine, options.prefix, options.encrypted)
        self._outside = options.outside
        self._home = home
        self._owner_note = f"{options.prefix}-{_OWNER}"
        self.secrets = SecretStore(home / "secrets.json", home / "tokens.json", elsewhere=self._outside.secrets)
        own = f"{options.binding.registry_host}:{options.ports['images']}"
        address = self._outside.registry.address if self._outside.registry else own
        self._tls = TlsSecrets(options.binding, address, self.secrets, home / "ca.crt")
        self._needs = Needs(
            options,
            self._engine,
            traffic=self._traffic,
            tls=self._tls,
            secrets=self.secrets,
            placed=self._docker_secrets,
            build=build,
        )
        self._images = ImagePlace(
            address, self._tls, self._outside, self.secrets, parts=self._parts, authority=options.authority
        )

    def known_id(self) -> str | None:
        """Return the id that Terraform was given last."""
        known: str | None = self._terraform.variables().get("installation_id")
        return known

    def up(self, report_progress: ProgressReporter) -> None:
        """Bring all up and wait until it answers; what the environments serve stays what it is.

        Raises UsageError for what is missing on this machine, Refused while somebody else changes the installation or
        a release does not end, DeployFailed when something else is served afterwards,
        Undecided with the scheduler's reasons and the last log lines when a part does not come up.
        """
        with held(self._lock, "up"):
            self._check_prefix()
            kept = self._terraform.variables()
            if self._terraform.exists() and kept:
                self._outside.check_unmoved(kept)
            variables = self._prepared(report_progress)
            self._mark_as_own()
            with self._hold.unchanged("up", report_progress):
                before = self._parts.served()
                self._apply(variables, report_progress)
                self._check_served(before)
                self._settle(variables, report_progress)

    def add_model(self, model: str, report_progress: ProgressReporter) -> None:
        """Bring up the services of a further model, whose name the options have by now; those of others stay.

        Raises UsageError while nothing runs, and as `up` does.
        """
        self._change_models(f"the services of {model} are added", report_progress)

    def remove_model(self, model: str, report_progress: ProgressReporter) -> None:
        """Remove the services of a model, whose name the options have no more; raises as `add_model` does."""
        self._change_models(f"the services of {model} are removed", report_progress)

    def _change_models(self, told: str, report_progress: ProgressReporter) -> None:
        self.outputs()
        report_progress(told)
        self.up(report_progress)

    def fill(self, put: Callable[[StackOutputs], None], report_progress: ProgressReporter) -> None:
        """Bring up what keeps data, and nothing that would use it, and have `put` fill it; `up` then starts the rest.

        Raises as `up` does.
        """
        with held(self._lock, "restore"):
            variables = {**self._prepared(report_progress), "serving": False}
            self._mark_as_own()
            self._apply(variables, report_progress)
            _, stack = self._entered(report_progress, besides=_SERVING)
            put(stack)

    def down(self, report_progress: ProgressReporter) -> None:
        """Stop every container; networks, volumes, and what the environments serve are kept.

        Raises Refused while somebody else changes the installation or a release does not end.
        """
        with held(self._lock, "down"):
            self._check_prefix()
            variables = self._terraform.variables()
            if not self._terraform.exists() or not variables:
                raise UsageError("nothing was brought up from this home", next='"make up"')
            check_engine(self._engine, self._options.engine_url)
            self._refuse_anothers()
            self._repair(report_progress)
            with self._hold.held("down", report_progress):
                self._parts.rest_slots()
                self._apply({**variables, "running": False}, report_progress)
                self._loads.remove()
                self._parts.await_rest()

    def destroy(self, report_progress: ProgressReporter) -> None:
        """Remove all that the installation has in the engine, its data too; what others run for it stays.

        Raises UsageError for one that another home has brought up.
        """
        with held(self._lock, "destroy"):
            self._check_prefix()
            check_engine(self._engine, self._options.engine_url)
            self._refuse_anothers()
            variables = self._terraform.variables()
            # A load run's job is on a network that Terraform is about to remove.
            self._loads.remove()
            if variables:
                self._destroy(variables, report_progress)
            left = self._parts.remove_all() + self._docker_secrets.remove_others(())
            if left:
                report_progress(f"removed {len(left)} secrets and other things that Terraform did not make")
            for line in left_outside(variables):
                report_progress(line)
            self._edge_record.unlink(missing_ok=True)

    def _destroy(self, variables: dict[str, Any], report_progress: ProgressReporter) -> None:
        """Have Terraform remove what it made, in a second try what it did not wait for in the first.

        It gives up when a container takes longer to end than it was given, although all that it asked for is done.
        """
        report_progress("terraform destroy")
        try:
            self._terraform.destroy(variables)
        except Undecided as error:
            report_progress(f"{error.message}; trying once more")
            self._terraform.destroy(variables)

    def rotate(self, name: str, report_progress: ProgressReporter) -> list[str]:
        """Give one secret or `all` new values and, if the installation runs, put them in force; return their names."""
        with held(self._lock, "secrets rotate"):
            self._check_prefix()
            made = self._tls.rotate(name)
            rotated = made if made and name != "all" else [*made, *self.secrets.rotate(name)]
        if self.is_up():
            self.up(report_progress)
        else:
            report_progress('in force with the next "make up"')
        return rotated

    def secret_names(self) -> list[str]:
        """Make the secrets that are missing; return the names of all."""
        with held(self._lock, "secrets"):
            self.secrets.make_missing()
        return self.secrets.names()

    def is_up(self) -> bool:
        """Whether the last thing asked for was that it runs."""
        asked = self._terraform.variables()
        return self._terraform.exists() and asked.get("running", False) and asked.get("serving", True)

    def plan(self) -> str:
        """Return what bringing it up again would change in the engine, an empty text when nothing."""
        with held(self._lock, "plan"):
            return self._terraform.plan(self._terraform.variables())

    def logs(self, lines: int) -> dict[str, list[str]]:
        """Return the last lines of every service and container."""
        tails = self._parts.last_lines(lines)
        if not tails:
            raise UsageError("nothing runs here", next='run "make up" first')
        return tails

    def trainer(self) -> dict[str, str]:
        """Return the environment variables with which this machine may register versions."""
        return {"MLFLOW_TRACKING_USERNAME": "trainer", "MLFLOW_TRACKING_PASSWORD": self.secrets.value("mlflow-trainer")}

    @contextmanager
    def left_alone(self, verb: str) -> Iterator[None]:
        """Keep everybody from changing the installation for a block; raise Refused while somebody does."""
        with held(self._lock, verb):
            yield

    def root_objects(self, stack: StackOutputs) -> S3Access | None:
        """Return the own object store as its root reaches it; None for one that others run."""
        if self._outside.store:
            return None
        user, password = self.secrets.value("minio-root-user"), self.secrets.value("minio-root-password")
        return S3Access(stack.object_store.url, user, password, self._options.authority, stack.object_store.region)

    def image(self, name: str) -> str:
        """Return the id of the image that a part was made of last."""
        return str(self._terraform.variables()["images"][name])

    def data_remote(self) -> DvcRemote:
        """Return where DVC's data goes, for the user that has no other right."""
        store, secret = self.outputs().object_store, self.secrets.value
        user, password = secret("dvc-objects-user"), secret("dvc-objects-password")
        authority = self._outside.store.authority if self._outside.store else self._options.authority
        access = S3Access(store.url, user, password, authority, store.region)
        return DvcRemote(access, store.buckets.dvc, self._dvc_directory)

    def entered_engine(self) -> DockerEngine:
        """Return the engine of this machine, which may push and pull the installation's images."""
        engine = DockerEngine(self._options.engine_url, timeout_s=120.0)
        self._images.log_in(engine)
        return engine

    def doctor(self) -> dict[str, Any]:
        """Have the executor, which alone reaches everything, examine the installation."""
        service = self.outputs().services.executor
        _, told = self._engine.run_inside(service, _DOCTOR)
        try:
            examined: dict[str, Any] = json.loads(told)
        except ValueError:
            raise Undecided(f"{service} can't examine itself: {told[-500:]}", next='see "slipway logs"') from None
        if "error" in examined:
            raise SlipwayError.from_dict(examined["error"])
        return {**examined, "invariants": [*examined["invariants"], self._traffic.invariant()]}

    def outputs(self) -> StackOutputs:
        """Return what Terraform says of the installation; raise UsageError while it is not there as a whole."""
        stack = self._terraform.outputs().get("stack") if self.is_up() else None
        if stack is None:
            raise UsageError("nothing runs here", next='run "make up" first')
        return read_stack(stack, source="the output of Terraform")

    def _check_prefix(self) -> None:
        """Raise UsageError for another prefix than the home's: Terraform would replace everything, volumes too."""
        given, kept = self._options.prefix, self._terraform.variables().get("prefix")
        if kept not in (None, given):
            raise UsageError(
                f"this home has the installation {kept}, not {given}",
                next=f"SLIPWAY_PREFIX={kept}, or another SLIPWAY_HOME for {given}",
            )

    def _refuse_anothers(self) -> None:
        """Raise UsageError where another home has brought up what has the prefix: its data would be changed or lost.

        Whose it is, a note in the engine says, by the id that the home or its Terraform has. One of an earlier Slipway
        has none: it is this home's if Terraform has ever made anything from here.
        """
        owner, former = self._docker_secrets.noted(self._owner_note), self._terraform.variables()
        if owner is None:
            is_anothers = not former and bool(self._parts.names())
        else:
            is_anothers = owner not in (self._options.installation_id, former.get("installation_id"))
        if is_anothers:
            prefix = self._options.prefix
            raise UsageError(
                f"the installation {prefix} was brought up from another home than {self._home}",
                next="go to the home that it is of; for one beside it take another SLIPWAY_PREFIX and SLIPWAY_HOME"
                + ("" if former else f", and remove {self._home}, from which nothing was brought up"),
            )

    def _mark_as_own(self) -> None:
        """Note in the engine whose installation it is, before anything of it is made."""
        mine = self._options.installation_id
        if mine and self._docker_secrets.noted(self._owner_note) != mine:
            self._docker_secrets.remove(self._owner_note)
            self._docker_secrets.note(self._owner_note, mine)

    def _prepared(self, report_progress: ProgressReporter) -> dict[str, Any]:
        """Check and make all that Terraform builds on; return its variables."""
        kept = self._terraform.variables() if self._terraform.exists() else {}

        def once_checked() -> None:
            self._refuse_anothers()
            self._repair(report_progress)

        return self._needs.variables(kept, report_progress, once_checked=once_checked)

    def _repair(self, report_progress: ProgressReporter) -> None:
        """Remove what a killed Terraform was making, which its state does not know."""
        since = self._terraform.cut_off()
        if since is not None:
            for name in self._parts.remove_unknown(self._terraform.known_ids(), since):
                report_progress(f"removed {name}, which an interrupted run had left")

    def _apply(self, variables: dict[str, Any], report_progress: ProgressReporter) -> None:
        told, before = set[str](), self._parts.ended()

        def watch() -> None:
            for name, reason in self._parts.troubles(besides=before).items():
                if reason not in told:
                    told.add(reason)
                    report_progress(f"{name} {reason}")

        report_progress("terraform apply")
        try:
            self._terraform.apply(variables, watch)
        except Undecided as error:
            # What waits for an image that it may not pull waits for ever, also after the next try.
            with suppress(SlipwayError):
                self._images.let_pull(self._engine)
            raise self._explained(error, besides=before) from error

    def _explained(self, error: Undecided, *, besides: Collection[str] = ()) -> Undecided:
        return Undecided(f"{error.message}\n{self._parts.explain(besides=besides)}".strip(), next=error.next)

    def _await_executor(self) -> None:
        """Wait until the executor works: it goes on with its start only when the app's image is offered."""
        try:
            self._hold.await_executor()
        except Undecided as error:
            raise self._explained(error) from error

    def _check_served(self, before: Mapping[str, str]) -> None:
        after = self._parts.served()
        changed = [name for name, image in before.items() if name in after and after[name] != image]
        if changed:
            raise DeployFailed(f"{', '.join(changed)} serves another image than before", next='"slipway doctor"')

    def _settle(self, variables: Mapping[str, Any], report_progress: ProgressReporter) -> None:
        """Bring what lives inside of the services in line, and forget what is no longer used."""
        inside, _ = self._entered(report_progress)
        inside.make_users(self._options.model)
        report_progress("the users of the model registry are there")
        until = self._tls.ends()
        if until is not None:
            report_progress(f"the certificate of {self._options.binding.name} holds until {until:%Y-%m-%d}")
        self._images.let_pull(self._engine)
        self._images.share(str(variables["images"]["app"]), self._engine)
        self._await_executor()
        self.secrets.settle()
        in_use = [self._owner_note, *(each["name"] for each in variables["secrets"].values())]
        for name in self._docker_secrets.remove_others(in_use):
            report_progress(f"removed the former secret {name}")

    def _entered(
        self, report_progress: ProgressReporter, *, besides: Collection[str] = ()
    ) -> tuple[Provisioning, StackOutputs]:
        """Wait until all that is published answers but `besides`, and make the buckets; return the way inside."""
        outputs = self._terraform.outputs()
        stack = read_stack(outputs["stack"], source="the output of Terraform")
        self._reload_edge(stack.edge, str(outputs["edge_config_sha256"]), report_progress)
        ports = {name: port for name, port in self._options.published.items() if name not in besides}
        urls = {name: f"{self._options.binding.base_url}:{port}" for name, port in ports.items()}
        # Nothing of a model answers while only data is there.
        models = () if besides else sorted(self._terraform.variables()["models"])
        inside = Provisioning(urls, self.secrets, self._options.authority, models=models)
        inside.await_answers(self._parts.explain)
        if not self._outside.store:
            buckets = Buckets(**stack.object_store.buckets.model_dump())
            inside.make_buckets(buckets, retention_days=self._options.retention_days)
            report_progress("buckets and their users are there")
        return inside, stack

    def _reload_edge(self, edge: Edge, wanted: str, report_progress: ProgressReporter) -> None:
        """Let the running edge take its new configuration, of the digest `wanted`, over; its connections stay."""
        if self._edge_record.exists() and self._edge_record.read_text() == wanted:
            return
        report_progress("the edge takes its configuration over")
        EdgeSocket(self._engine, edge.name).reload()
        self._edge_record.write_text(wanted)
