"""What an operator's verbs refuse before anything is changed; the engine is a server that describes itself as told."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pipelines.adapters.containers.external_services import ExternalServices
from pipelines.adapters.containers.maintenance_hold import MaintenanceHold
from pipelines.adapters.containers.needs import InstallationOptions
from pipelines.adapters.containers.swarm_installation import SwarmInstallation
from pipelines.adapters.containers.terraform import Terraform
from pipelines.adapters.images.external_registry import ExternalRegistry
from pipelines.adapters.storage.external_store import ExternalStore
from pipelines.adapters.storage.object_store import Buckets
from pipelines.api.client import ApiClient, executor_silence
from pipelines.errors import SlipwayError, Undecided, UsageError
from pipelines.settings.settings import ROOT, Settings
from pipelines.settings.tokens import make_tokens
from tests.support.servers.servers import free_port


class Operator:
    """An operator whose home holds what a former `up` of the prefix `ours` left, and an engine that has nothing."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.work = home / "terraform"
        self.work.mkdir(parents=True)
        make_tokens(home / "tokens.json")
        self.socket = home / "engine.sock"
        self.root_directory = str(home)
        self.path = "/nowhere"
        self.asked: list[str] = []
        self.removed: list[str] = []
        self.services: list[dict[str, object]] = []
        self.notes: dict[str, str] = {}
        self.nodes: list[str] = []

    def record(self, **variables: object) -> None:
        (self.work / "variables.tfvars.json").write_text(json.dumps({"prefix": "ours", **variables}))
        (self.work / "terraform.tfstate").write_text("{}")

    def stack(
        self, prefix: str, outside: ExternalServices = ExternalServices(), *, id: str | None = None
    ) -> SwarmInstallation:
        ports = {name: free_port() for name in ("api", "images", "mlflow", "production", "s3", "staging")}
        url = f"unix://{self.socket}"
        given = {"prefix": prefix, "engine_url": url, "outside": outside, "installation_id": id}
        options = InstallationOptions(model="m", model_file=ROOT / "model.yaml", ports=ports, **given)
        terraform = Terraform(ROOT / "infra", self.work, {"PATH": self.path}, self.work / "none.rc")
        given = {"TARGET": "docker", "SLIPWAY_HOME": str(self.home), "SLIPWAY_PORT_API": str(ports["api"])}
        settings = Settings.from_environ(given)
        hold = MaintenanceHold(
            partial(ApiClient, settings), executor_silence, self.home, settings.tokens_file, work=list
        )
        return SwarmInstallation(options, self.home, terraform, lambda report_progress: {}, hold=hold)

    def answer(self, path: str) -> object:
        self.asked.append(path)
        if path.endswith("/version"):
            return {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        if path.endswith("/info"):
            swarm = {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": "n"}
            return {"Swarm": swarm, "DockerRootDir": self.root_directory}
        if path.endswith("/services"):
            return self.services
        if path.endswith("/secrets"):
            return [
                {"ID": name, "Spec": {"Name": name, "Labels": {"slipway.note": text}}}
                for name, text in self.notes.items()
            ]
        if path.endswith("/nodes"):
            return [{"ID": node} for node in self.nodes]
        return {"Volumes": []} if path.endswith("/volumes") else []


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    made = Operator(tmp_path / "home")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(made.answer(self.path.partition("?")[0])).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self) -> None:
            made.removed.append(self.path)
            self.send_response(204)
            self.end_headers()

        def address_string(self) -> str:
            return "local"

        def log_message(self, *words: object) -> None:
            pass

    with socketserver.ThreadingUnixStreamServer(str(made.socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def ignore(line: str) -> None:
    pass


VERBS: dict[str, Callable[[SwarmInstallation], object]] = {
    "up": lambda stack: stack.up(ignore),
    "down": lambda stack: stack.down(ignore),
    "destroy": lambda stack: stack.destroy(ignore),
    "rotate": lambda stack: stack.rotate("postgres", ignore),
}


@pytest.mark.parametrize("verb", VERBS)
def test_another_prefix_than_the_homes_is_refused_before_anything_is_touched(operator: Operator, verb: str) -> None:
    operator.record(running=False)
    kept = sorted(path.name for path in operator.home.rglob("*"))
    with pytest.raises(UsageError, match="has the installation ours, not slipway") as refused:
        VERBS[verb](operator.stack("slipway"))
    assert "SLIPWAY_PREFIX=ours" in refused.value.next and "SLIPWAY_HOME" in refused.value.next
    assert operator.asked == []
    assert sorted({path.name for path in operator.home.rglob("*")} - {"docker.lock"}) == sorted(kept)


def test_the_homes_own_prefix_is_taken(operator: Operator) -> None:
    operator.record(running=False)
    with pytest.raises(SlipwayError) as refused:
        operator.stack("ours").down(ignore)
    assert "has the installation" not in refused.value.message
    assert operator.asked


SERVICE = {
    "ID": "s1",
    "CreatedAt": "2026-01-01T00:00:00Z",
    "Spec": {"Name": "ours-database", "Labels": {}, "TaskTemplate": {"ContainerSpec": {"Image": "i"}}},
}


@pytest.mark.parametrize("verb", ["up", "destroy"])
def test_what_another_home_brought_up_is_neither_taken_over_nor_destroyed(operator: Operator, verb: str) -> None:
    operator.services = [SERVICE]
    # From one of before, which has left no note, a home that has brought nothing up takes nothing.
    for notes in ({"ours-owner": "one"}, {}):
        operator.notes = notes
        with pytest.raises(UsageError, match="the installation ours was brought up from another home") as refused:
            VERBS[verb](operator.stack("ours", id="another"))
        assert f"remove {operator.home}" in refused.value.next
    assert operator.removed == []
    assert not (operator.home / "secrets.json").exists()


@pytest.mark.parametrize("verb", ["down", "destroy"])
def test_a_home_with_state_of_its_own_changes_nothing_of_another(operator: Operator, verb: str) -> None:
    operator.record(running=True)
    operator.services, operator.notes = [SERVICE], {"ours-owner": "one"}
    with pytest.raises(UsageError, match="from another home"):
        VERBS[verb](operator.stack("ours", id="another"))
    assert operator.removed == []


def test_another_node_of_the_same_swarm_has_none_of_the_data(operator: Operator) -> None:
    operator.record(running=True, state_node="m", docker_host="unix:///former.sock")
    operator.nodes = ["m", "n"]
    with pytest.raises(UsageError, match="the data of this installation is on the node m, and DOCKER_HOST leads to n"):
        operator.stack("ours").up(ignore)
    # It has left its swarm since, and is another node of the next one.
    operator.nodes = ["n"]
    with pytest.raises(SlipwayError) as refused:
        operator.stack("ours").up(ignore)
    assert "is on the node" not in refused.value.message


def outside(**changed: object) -> ExternalServices:
    """An object store and an image registry that others run, where nothing answers."""
    where = "http://127.0.0.1:9"
    return replace(
        ExternalServices(ExternalStore(where, where, "eu-1", Buckets()), ExternalRegistry("127.0.0.1:9")), **changed
    )


OURS: dict[str, object] = {}
THEIRS = outside().variables()


@pytest.mark.parametrize(
    ("kept", "given", "why"),
    [
        (OURS, outside(registry=None), "object store of this installation is its own, not an external one with mlflow"),
        (OURS, outside(store=None), "image registry of this installation is its own, not 127.0.0.1:9"),
        (THEIRS, outside(registry=None), "image registry of this installation is 127.0.0.1:9, not its own"),
        (THEIRS, outside(store=None), "object store of this installation is an external one with mlflow"),
        (THEIRS, outside(registry=ExternalRegistry("127.0.0.1:9/x")), "is 127.0.0.1:9, not 127.0.0.1:9/x"),
        (
            {**THEIRS, "buckets": {"artifacts": "a", "dvc": "dvc", "heads": "h"}},
            outside(),
            "is an external one with a, dvc, h, not an external one with mlflow, dvc, audit-heads",
        ),
    ],
)
def test_what_holds_data_is_never_changed_for_another(
    operator: Operator, kept: dict[str, object], given: ExternalServices, why: str
) -> None:
    operator.record(running=False, **kept)
    with pytest.raises(UsageError, match=why) as refused:
        operator.stack("ours", given).up(ignore)
    assert "SLIPWAY_HOME" in refused.value.next and operator.asked == []


def test_an_installation_that_never_came_about_may_have_them_elsewhere(operator: Operator) -> None:
    operator.record(running=False)
    (operator.work / "terraform.tfstate").unlink()
    with pytest.raises(UsageError, match=r"keys of the object store at http://127\.0\.0\.1:9 are missing"):
        operator.stack("ours", outside()).up(ignore)


@pytest.mark.parametrize(("name", "setting"), [("keys", "SLIPWAY_S3_KEYS"), ("login", "SLIPWAY_REGISTRY_LOGIN")])
def test_keys_of_what_is_not_chosen_are_refused(operator: Operator, name: str, setting: str) -> None:
    stack = operator.stack("ours", replace(ExternalServices(), **{name: Path("/some/file")}))
    with pytest.raises(UsageError, match=f"{setting} is given, but no"):
        stack.up(ignore)
    assert operator.asked == []


def test_an_object_store_that_does_not_answer_stops_before_anything_is_changed(operator: Operator) -> None:
    keys = operator.home / "keys.json"
    pair = {"access_key": "a", "secret_key": "canary"}
    keys.write_text(json.dumps({"mlflow": pair, "dvc": pair, "audit": pair}))
    keys.chmod(0o600)
    with pytest.raises(Undecided, match=r"object store at http://127\.0\.0\.1:9 does not answer") as refused:
        operator.stack("ours", outside(keys=keys, registry=None)).up(ignore)
    assert "canary" not in str(refused.value)
    assert not (operator.home / "secrets.json").exists()


def test_a_full_disk_hinders_up_and_neither_down_nor_destroy(operator: Operator) -> None:
    operator.record(running=False)
    # A file system that has no room by its nature.
    operator.root_directory = "/proc"
    with pytest.raises(SlipwayError, match="nearly full"):
        operator.stack("ours").up(ignore)
    for verb in ("down", "destroy"):
        # Their next need.
        with pytest.raises(SlipwayError, match="no terraform"):
            VERBS[verb](operator.stack("ours"))


@pytest.mark.parametrize("running", [None, True, False])
def test_an_installation_that_never_came_about_has_nothing_to_examine(
    operator: Operator, running: bool | None, tmp_path: Path
) -> None:
    (tmp_path / "terraform").write_text("#!/bin/sh\necho '{}'\n")
    (tmp_path / "terraform").chmod(0o755)
    operator.path = f"{tmp_path}:/bin"
    if running is not None:
        operator.record(running=running)
    for ask in (SwarmInstallation.doctor, SwarmInstallation.data_remote):
        with pytest.raises(UsageError, match="nothing runs here") as refused:
            ask(operator.stack("ours"))
        assert "make up" in refused.value.next


@pytest.mark.parametrize("change", [SwarmInstallation.add_model, SwarmInstallation.remove_model])
def test_no_model_comes_or_goes_while_nothing_runs(
    operator: Operator, change: Callable[[SwarmInstallation, str, Callable[[str], None]], None]
) -> None:
    operator.record(running=False)
    told: list[str] = []
    with pytest.raises(UsageError, match="nothing runs here"):
        change(operator.stack("ours"), "second", told.append)
    assert told == []


@pytest.mark.parametrize(("failures", "removed"), [(1, True), (2, False)])
def test_what_terraform_did_not_wait_for_is_removed_in_a_second_try(
    operator: Operator, tmp_path: Path, failures: int, removed: bool
) -> None:
    operator.record(running=True)
    tries = tmp_path / "tries"
    (tmp_path / "terraform").write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '*version*) echo \'{"terraform_version": "1.11.0"}\' ;;\n'
        f"*destroy*) echo >> {tries}\n"
        f"  [ $(wc -l < {tries}) -gt {failures} ] || {{ echo 'Error: context deadline exceeded' >&2; exit 1; }} ;;\n"
        "esac\n"
    )
    (tmp_path / "terraform").chmod(0o755)
    operator.path = f"{tmp_path}:/usr/bin:/bin"
    told: list[str] = []
    if removed:
        operator.stack("ours").destroy(told.append)
    else:
        with pytest.raises(Undecided, match="context deadline exceeded"):
            operator.stack("ours").destroy(told.append)
    assert told[1] == "terraform destroy: context deadline exceeded; trying once more"
    assert len(tries.read_text().splitlines()) == 2


def test_the_id_that_terraform_was_given_last_is_known(operator: Operator) -> None:
    operator.record(installation_id="ours")
    assert operator.stack("ours").known_id() == "ours"
