"""What operators give for an object store and an image registry that others run, and how nonsense is refused."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.containers.external_services import ExternalServices, left_outside
from pipelines.adapters.images.external_registry import ExternalRegistry
from pipelines.adapters.storage.external_store import ExternalStore, read_keys
from pipelines.adapters.storage.object_store import Buckets
from pipelines.errors import UsageError

REGISTRY = ExternalRegistry("registry.example.com:5000/team")
STORE = ExternalStore("https://in.example.com", "https://s3.example.com", "eu-1", Buckets("a", "d", "h"))
PAIR = {"access_key": "AKIA", "secret_key": "canary"}
KEYS = {"mlflow": PAIR, "dvc": PAIR, "audit": PAIR}


def written(place: Path, content: object, mode: int = 0o600) -> Path:
    file = place / "given.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    file.chmod(mode)
    return file


def login(user_and_password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(user_and_password.encode()).decode()}


def test_keys_become_the_secrets_of_their_clients(tmp_path: Path) -> None:
    keys = read_keys(written(tmp_path, {**KEYS, "dvc": {"access_key": "AKIB", "secret_key": "other"}}))
    assert (keys["dvc-objects-user"], keys["dvc-objects-password"]) == ("AKIB", "other")
    assert (keys["mlflow-objects-user"], keys["audit-objects-password"]) == ("AKIA", "canary")
    assert set(keys) == ExternalServices(STORE).secrets - {"minio-root-password", "minio-root-user"}


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (KEYS, 0o640, "can be read by others"),
        (KEYS, 0o604, "can be read by others"),
        ('{"mlflow": "canary', 0o600, "is not JSON"),
        ([PAIR], 0o600, "does not hold a key for each client"),
        ({**KEYS, "audit": {"access_key": "AKIA"}}, 0o600, "does not hold a key for each client"),
        ({**KEYS, "audit": {**PAIR, "secret_key": ""}}, 0o600, "does not hold a key for each client"),
        ({**KEYS, "audit": {**PAIR, "secret_key": 1}}, 0o600, "does not hold a key for each client"),
        ({"mlflow": PAIR, "dvc": PAIR}, 0o600, "does not hold a key for each client"),
    ],
)
def test_a_file_without_usable_keys_is_refused_and_not_shown(
    tmp_path: Path, content: object, mode: int, why: str
) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        read_keys(written(tmp_path, content, mode))
    assert "SLIPWAY_S3_KEYS" in refused.value.message and refused.value.next
    assert "canary" not in f"{refused.value}{refused.value.__cause__}"


def test_a_store_that_takes_what_does_not_fit_its_digest_is_refused_before_anything_is_locked(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    class Careless(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.append((self.command, self.path.partition("?")[0]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        store = ExternalStore(url, url, "eu-1", Buckets("a", "d", "h"))
        with pytest.raises(UsageError, match=r"stores what does not fit its digest \(Content-MD5\)") as refused:
            store.check(read_keys(written(tmp_path, KEYS)), retention_days=1)
        server.shutdown()

    assert asked == [("PUT", "/d/slipway-looks")]
    assert "remove slipway-looks from d" in refused.value.next


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"SLIPWAY_S3_KEYS=.*none can't be read"):
        read_keys(tmp_path / "none")


def test_of_a_clients_logins_only_the_one_that_is_needed_is_taken(tmp_path: Path) -> None:
    wanted = login("robot$slipway:pass:word")
    auths = {"registry.example.com:5000": wanted, "other.example.com": login("me:canary")}
    taken = REGISTRY.read_login(written(tmp_path, {"auths": auths, "credsStore": "pass"}))
    assert json.loads(taken) == {"auths": {"registry.example.com:5000": wanted}}


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"auths": {"registry.example.com": login("a:b")}},
        # What a credential helper leaves.
        {"auths": {"registry.example.com:5000": {}}, "credsStore": "pass"},
        {"auths": {"registry.example.com:5000": {"auth": "canary!"}}},
        {"auths": {"registry.example.com:5000": {"auth": 1}}},
        {"auths": {"registry.example.com:5000": login("nobody")}},
        {"auths": {"registry.example.com:5000": login(":canary")}},
    ],
)
def test_a_file_without_that_login_is_refused_with_its_form(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UsageError, match=r"holds no login to registry\.example\.com:5000") as refused:
        REGISTRY.read_login(written(tmp_path, content))
    assert '"auths"' in refused.value.next and "canary" not in refused.value.message


def test_terraform_is_told_where_they_are_and_no_secret() -> None:
    assert ExternalServices().variables() == {}
    assert ExternalServices(STORE, REGISTRY).variables() == {
        "buckets": {"artifacts": "a", "dvc": "d", "heads": "h"},
        "image_registry_external": {"address": "registry.example.com:5000/team", "has_authority": False},
        "object_store_external": {
            "endpoint": "https://in.example.com",
            "has_authority": False,
            "region": "eu-1",
            "url": "https://s3.example.com",
        },
    }


def test_what_is_not_run_here_is_neither_built_nor_published_nor_made() -> None:
    assert (ExternalServices().images, ExternalServices().ports, ExternalServices().secrets) == (frozenset(),) * 3
    both = ExternalServices(STORE, REGISTRY)
    assert (both.images, both.ports) == ({"minio", "image_registry"}, {"s3", "images"})
    assert {"minio-root-password", "mlflow-objects-password", "config.json"} <= both.secrets


def test_who_removes_an_installation_is_told_what_others_keep() -> None:
    assert list(left_outside({})) == []
    assert list(left_outside(ExternalServices(STORE, REGISTRY).variables())) == [
        "left for its owner: the buckets a, d, h at https://s3.example.com",
        "left for its owner: the images below registry.example.com:5000/team/slipway",
    ]
