"""The operator's secrets: made once, kept for the owner alone, changed when asked and never shown."""

import json
import re
from pathlib import Path

import pytest

from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.errors import SlipwayError, UsageError
from pipelines.settings.installation import InstallationRecord
from pipelines.settings.settings import ROOT


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    (tmp_path / "tokens.json").write_text('{"alice": "alices-token", "bob": "bobs-token"}')
    made = SecretStore(tmp_path / "secrets.json", tmp_path / "tokens.json")
    made.make_missing()
    return made


def test_every_secret_that_a_service_reads_is_made_and_no_other_leaves_the_home(store: SecretStore) -> None:
    readers = re.search(r"\n  readers = \{\n(.*?)\n  \}\n", (ROOT / "infra" / "main.tf").read_text(), re.DOTALL)
    assert readers
    assert set(re.findall(r'"([a-z-]+)"', readers[1])) == set(store.mounted())


def test_a_secret_is_made_once(store: SecretStore, tmp_path: Path) -> None:
    before = store.mounted()
    assert store.make_missing() == []
    again = SecretStore(tmp_path / "secrets.json", tmp_path / "tokens.json")
    assert again.make_missing() == []
    assert again.mounted() == before


def test_passwords_are_long_differ_and_fit_what_minio_takes(store: SecretStore) -> None:
    passwords = [
        value for name, value in store.mounted().items() if re.search("password|database|postgres|mlflow-[apr]", name)
    ]
    assert len(set(passwords)) == len(passwords) >= 10
    assert {len(value) for value in passwords} == {40}


def test_the_file_is_the_owners_alone_and_one_that_is_not_is_refused(store: SecretStore, tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others") as refused:
        store.mounted()
    assert refused.value.next == f"chmod 600 {file}"


@pytest.mark.parametrize("content", ["", "{", "{}", '{"postgres": ["canary'])
def test_a_broken_file_is_refused_without_its_content_and_not_replaced(
    store: SecretStore, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(content)
    with pytest.raises(UsageError) as refused:
        store.make_missing()
    error: BaseException | None = refused.value
    while error:
        assert "canary" not in str(error)
        error = error.__cause__
    assert file.read_text() == content


def test_a_file_that_is_lost_is_refused_and_not_made_anew(store: SecretStore, tmp_path: Path) -> None:
    InstallationRecord(id="ours", settings={}, model="churn-model").write(tmp_path)
    (tmp_path / "secrets.json").unlink()
    for ask in (store.make_missing, store.names, store.mounted, store.settle, lambda: store.rotate("all")):
        with pytest.raises(UsageError, match=r"secrets\.json is missing") as refused:
            ask()
        assert "restore it from a backup" in refused.value.next
    assert not (tmp_path / "secrets.json").exists()


def test_a_rotated_secret_keeps_its_former_values_until_settled(store: SecretStore) -> None:
    first, others = store.value("mlflow-admin"), store.value("postgres")
    assert store.rotate("mlflow-admin") == ["mlflow-admin"]
    second = store.value("mlflow-admin")
    store.rotate("mlflow-admin")
    assert store.former("mlflow-admin") == [second, first]
    assert len({store.value("mlflow-admin"), second, first}) == 3
    assert store.value("postgres") == others
    store.settle()
    assert store.former("mlflow-admin") == []


def test_rotating_all_changes_what_can_change(store: SecretStore) -> None:
    before = store.mounted()
    store.rotate("all")
    same = {name for name, value in store.mounted().items() if before[name] == value}
    assert same == {"audit-objects-user", "minio-root-user", "mlflow-objects-user", "mlflow-webhook-key"}


def test_rotated_tokens_belong_to_the_same_people(store: SecretStore, tmp_path: Path) -> None:
    store.rotate("tokens")
    tokens = json.loads((tmp_path / "tokens.json").read_text())
    assert sorted(tokens) == ["alice", "bob"]
    assert "alices-token" not in tokens.values()
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    assert json.loads(store.mounted()["tokens"]) == tokens


@pytest.mark.parametrize(
    ("name", "why"),
    [("mlflow-webhook-key", "webhooks"), ("minio-root-user", "rotate minio-root-password"), ("nonsense", "no secret")],
)
def test_what_does_not_change_is_refused_with_the_reason(store: SecretStore, name: str, why: str) -> None:
    before = store.mounted()
    with pytest.raises(SlipwayError, match=why):
        store.rotate(name)
    assert store.mounted() == before


def test_who_names_no_secret_is_told_all_names(store: SecretStore) -> None:
    with pytest.raises(UsageError) as refused:
        store.rotate("nonsense")
    told = refused.value.next.removeprefix("one of: ").split(", ")
    assert {"all", "postgres", "tokens", "tls", "tls-ca"} <= set(told)


def test_what_others_make_is_neither_made_nor_rotated_but_taken_over(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('{"alice": "alices-token"}')
    theirs = ("dvc-objects-password", "dvc-objects-user", "mlflow-objects-password")
    store = SecretStore(tmp_path / "secrets.json", tmp_path / "tokens.json", elsewhere=theirs)
    assert not set(theirs) & set(store.make_missing()) and not set(theirs) & set(store.names())
    store.take({"dvc-objects-user": "AKIA1", "mlflow-objects-password": "first"})
    store.take({"dvc-objects-user": "AKIA1", "mlflow-objects-password": "second"})
    assert (store.value("dvc-objects-user"), store.former("dvc-objects-user")) == ("AKIA1", [])
    assert (store.value("mlflow-objects-password"), store.former("mlflow-objects-password")) == ("second", ["first"])
    assert store.mounted()["mlflow-objects-password"] == "second"
    assert not set(theirs) & set(store.rotate("all"))
    with pytest.raises(UsageError, match="made by the owner of what it is for") as refused:
        store.rotate("dvc-objects-password")
    assert "SLIPWAY_S3_KEYS" in refused.value.next
    store.settle()
    assert store.former("mlflow-objects-password") == []


def test_former_tokens_are_kept_until_settled_and_no_service_gets_them(store: SecretStore) -> None:
    store.rotate("tokens")
    second = store.value("tokens")
    store.rotate("all")
    assert [json.loads(text)["alice"] for text in store.former("tokens")] == [
        json.loads(second)["alice"],
        "alices-token",
    ]
    assert "alices-token" not in json.dumps(store.mounted()) and "former-tokens" not in store.names()
    store.settle()
    assert store.former("tokens") == []
    assert "alices-token" not in json.dumps(store.mounted())
