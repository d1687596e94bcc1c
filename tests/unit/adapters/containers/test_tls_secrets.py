"""What an installation beyond loopback gets to read: made once, kept, renewed when due, and on loopback nothing."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bcrypt
import pytest

from pipelines.adapters.containers.certificates import CERTIFICATE_DAYS, issue, make_authority
from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.adapters.containers.tls_secrets import PASSWORD, TlsSecrets
from pipelines.errors import UsageError
from pipelines.settings.binding import ON_LOOPBACK, Binding

NAME = "ml.example.com"
NOW = datetime.now(UTC)
MADE = Binding(address="0.0.0.0", external_url=f"https://{NAME}", generate=True)

Open = Callable[..., TlsSecrets]


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    (tmp_path / "tokens.json").write_text('{"alice": "alices-token"}')
    made = SecretStore(tmp_path / "secrets.json", tmp_path / "tokens.json")
    made.make_missing()
    return made


@pytest.fixture
def opened(store: SecretStore, tmp_path: Path) -> Open:
    def open_them(binding: Binding = MADE, *, now: datetime = NOW) -> TlsSecrets:
        return TlsSecrets(binding, f"{NAME}:5001", store, tmp_path / "ca.crt", now=lambda: now)

    return open_them


@pytest.fixture
def own(tmp_path: Path) -> Binding:
    authority = make_authority("localhost", NOW)
    given = issue(authority, "localhost", NOW)
    for name, text in [("own.pem", given.certificate), ("own.key", given.key), ("own-ca.pem", authority.certificate)]:
        (tmp_path / name).write_text(text)
    return Binding(
        address="0.0.0.0",
        external_url="https://localhost",
        certificate=tmp_path / "own.pem",
        key=tmp_path / "own.key",
        authority=tmp_path / "own-ca.pem",
    )


def test_on_loopback_there_is_none_and_nothing_is_made(opened: Open, store: SecretStore, tmp_path: Path) -> None:
    before = store.names()
    tls = opened(ON_LOOPBACK)
    tls.check()
    assert (tls.mounted(), tls.variable({}), tls.login(), tls.ends(), tls.rotate("all")) == ({}, None, None, None, [])
    assert store.names() == before and not (tmp_path / "ca.crt").exists()


def test_what_is_made_once_stays_the_same_and_its_authority_lies_in_the_home(opened: Open, tmp_path: Path) -> None:
    first = opened().mounted()
    assert set(first) == {"ca.pem", "config.json", "registry-users", "tls-certificate", "tls-key"}
    assert opened(now=NOW + timedelta(days=300)).mounted() == first
    assert (tmp_path / "ca.crt").read_text() == first["ca.pem"]
    assert "PRIVATE" not in first["ca.pem"] + first["tls-certificate"]


def test_no_key_and_no_password_leaves_by_the_way_of_the_other_secrets(opened: Open, store: SecretStore) -> None:
    mounted = opened().mounted()
    others = json.dumps(store.mounted())
    assert store.value(PASSWORD) not in others and mounted["tls-key"] not in others
    assert store.value("tls-ca-key") not in json.dumps(mounted)


def test_the_login_of_engines_is_the_one_that_the_registry_knows(opened: Open, store: SecretStore) -> None:
    mounted = opened().mounted()
    login = json.loads(mounted["config.json"])["auths"][f"{NAME}:5001"]["auth"]
    user, _, password = base64.b64decode(login).decode().partition(":")
    known, _, hashed = mounted["registry-users"].strip().partition(":")
    assert (user, password) == opened().login() == (known, store.value(PASSWORD))
    assert bcrypt.checkpw(password.encode(), hashed.encode())
    assert not bcrypt.checkpw(b"another", hashed.encode())


def test_a_rotated_password_of_the_registry_is_another_login(opened: Open, store: SecretStore) -> None:
    before = opened().mounted()
    store.rotate(PASSWORD)
    changed = {name for name, value in opened().mounted().items() if before[name] != value}
    assert changed == {"config.json", "registry-users"}


def test_a_rotated_certificate_has_the_authority_that_others_trust(opened: Open) -> None:
    before, tls = opened().mounted(), opened()
    assert tls.rotate("tls") == ["tls"]
    after = tls.mounted()
    assert after["ca.pem"] == before["ca.pem"]
    assert after["tls-key"] != before["tls-key"] and after["tls-certificate"] != before["tls-certificate"]


def test_a_rotated_authority_comes_with_a_certificate(opened: Open, tmp_path: Path) -> None:
    before, tls = opened().mounted(), opened()
    assert tls.rotate("tls-ca") == ["tls", "tls-ca"]
    after = tls.mounted()
    assert after["ca.pem"] != before["ca.pem"] and after["tls-certificate"] != before["tls-certificate"]
    assert (tmp_path / "ca.crt").read_text() == after["ca.pem"]


def test_rotating_all_renews_the_certificate_and_keeps_the_authority(opened: Open) -> None:
    before, tls = opened().mounted(), opened()
    assert tls.rotate("all") == ["tls"]
    assert tls.mounted()["ca.pem"] == before["ca.pem"]
    assert tls.rotate("postgres") == []


def test_a_certificate_that_ends_soon_is_renewed_and_another_name_gets_its_own(opened: Open) -> None:
    first = opened().mounted()
    later = opened(now=NOW + timedelta(days=CERTIFICATE_DAYS)).mounted()
    assert later["ca.pem"] == first["ca.pem"] and later["tls-certificate"] != first["tls-certificate"]
    moved = opened(replace(MADE, external_url="https://localhost")).mounted()
    assert moved["ca.pem"] != first["ca.pem"]


def test_own_files_are_shown_and_their_authority_is_trusted(opened: Open, own: Binding, tmp_path: Path) -> None:
    tls = opened(own)
    tls.check()
    mounted = tls.mounted()
    assert (mounted["tls-certificate"], mounted["tls-key"]) == (
        (tmp_path / "own.pem").read_text(),
        (tmp_path / "own.key").read_text(),
    )
    assert mounted["ca.pem"] == (tmp_path / "own-ca.pem").read_text()
    assert opened(replace(own, authority=None)).mounted()["ca.pem"] == mounted["tls-certificate"]
    assert not (tmp_path / "ca.crt").exists()


def test_own_files_are_checked_for_the_name_and_the_time(opened: Open, own: Binding) -> None:
    with pytest.raises(UsageError, match="expired on"):
        opened(own, now=NOW + timedelta(days=CERTIFICATE_DAYS + 1)).check()
    assert own.certificate and own.key
    other = issue(make_authority(NAME, NOW), NAME, NOW)
    own.certificate.write_text(other.certificate)
    own.key.write_text(other.key)
    with pytest.raises(UsageError, match=f"is for {NAME}, not for localhost"):
        opened(own).check()


@pytest.mark.parametrize("which", ["certificate", "key", "authority"])
def test_a_file_that_is_not_there_is_refused_by_the_name_of_its_setting(opened: Open, own: Binding, which: str) -> None:
    setting = {"certificate": "SLIPWAY_TLS_CERT", "key": "SLIPWAY_TLS_KEY", "authority": "SLIPWAY_TLS_CA"}[which]
    missing = Path("/nowhere.pem")
    given = {
        "certificate": replace(own, certificate=missing),
        "key": replace(own, key=missing),
        "authority": replace(own, authority=missing),
    }[which]
    with pytest.raises(UsageError, match=f"{setting}=/nowhere.pem can't be read"):
        opened(given).check()


def test_own_files_are_not_rotated_here(opened: Open, own: Binding) -> None:
    with pytest.raises(UsageError, match="no tls is made here") as refused:
        opened(own).rotate("tls")
    assert "SLIPWAY_TLS_CERT" in refused.value.next
    assert opened(own).rotate("all") == []


@pytest.mark.parametrize("name", ["tls", "tls-ca"])
def test_on_loopback_nobody_is_told_to_renew_files(opened: Open, name: str) -> None:
    with pytest.raises(UsageError, match=f"no {name} is made here") as refused:
        opened(ON_LOOPBACK).rotate(name)
    assert "SLIPWAY_TLS=generate" in refused.value.next and "renew" not in refused.value.next


def test_a_name_that_this_machine_does_not_know_is_refused(opened: Open) -> None:
    with pytest.raises(UsageError, match=r"does not know nobody\.invalid"):
        opened(replace(MADE, external_url="https://nobody.invalid")).check()


def test_what_is_given_to_terraform_are_ids_and_names(opened: Open) -> None:
    placed = {name: {"id": f"id-of-{name}", "name": name} for name in opened().mounted()}
    variable = opened().variable(placed)
    assert variable is not None
    assert {name: secret["id"] for name, secret in variable.items()} == {
        "certificate": "id-of-tls-certificate",
        "key": "id-of-tls-key",
        "registry_users": "id-of-registry-users",
    }
