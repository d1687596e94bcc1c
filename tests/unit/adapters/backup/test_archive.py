"""The file of a backup: what was put in comes out, and nothing else gets in."""

import gzip
import io
import secrets
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyrage
import pytest

from pipelines.adapters.backup.archive import describe_files, opened_archive, write_archive
from pipelines.adapters.backup.encryption import read_identities, read_recipients
from pipelines.domain.backup import FORMAT, MANIFEST_LIMIT_BYTES, BackedUpFile, Manifest
from pipelines.errors import BackupDamaged, Undecided, UsageError

FILES = {"home/tokens.json": b'{"alice": "secret-of-alice"}', "home/bundles/sha256-1/model.onnx": b"\0" * 3_000_000}


def manifest(files: Sequence[BackedUpFile], **changes: Any) -> Manifest:
    told: dict[str, Any] = {"format": FORMAT, "created_at": "2026-01-02T03:04:05+00:00", "slipway": "0.1.0"}
    told |= {"target": "local", "model": "toy-model", "installation_id": "i-1", "formats": {"records": 4}}
    return Manifest(**told | {"files": tuple(files)} | changes)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / "sources" / name for name in FILES}
    for name, path in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[name])
    return found


def unpacked(file: Path, into: Path, identities: Sequence[Any] = ()) -> dict[str, bytes]:
    into.mkdir()
    with opened_archive(file, identities) as archive:
        archive.unpack(into)
    return {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}


def packed(file: Path, entries: Sequence[tuple[tarfile.TarInfo, bytes]], described: Manifest) -> Path:
    """Write an archive by hand, as an attacker would."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        content = described.model_dump_json().encode()
        for header, body in [(entry("manifest.json", content), content), *entries]:
            tar.addfile(header, io.BytesIO(body))
    file.write_bytes(gzip.compress(plain.getvalue()))
    return file


def entry(name: str, content: bytes, **changes: Any) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for key, value in changes.items():
        setattr(header, key, value)
    return header


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_was_put_in_comes_out_readable_by_its_owner_alone(
    tmp_path: Path, sources: dict[str, Path], encrypted: bool
) -> None:
    key, file = pyrage.x25519.Identity.generate(), tmp_path / "backup"
    (tmp_path / "key").write_text(f"# made by a test\n{key}\n")
    recipients = read_recipients([str(key.to_public())]) if encrypted else []
    write_archive(file, manifest(describe_files(sources)), sources, recipients)
    assert file.stat().st_mode & 0o777 == 0o600
    assert (b"age-encryption" in file.read_bytes()[:50]) is encrypted
    assert unpacked(file, tmp_path / "out", read_identities(tmp_path / "key") if encrypted else []) == FILES
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "out").rglob("*")} == {0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "key", "out", "sources"]


def test_an_encrypted_backup_needs_its_key(tmp_path: Path, sources: dict[str, Path]) -> None:
    keys, file = [pyrage.x25519.Identity.generate() for _ in range(2)], tmp_path / "backup"
    write_archive(file, manifest(describe_files(sources)), sources, [keys[0].to_public()])
    with pytest.raises(UsageError, match="is encrypted"):
        unpacked(file, tmp_path / "none")
    with pytest.raises(BackupDamaged, match="can't be decrypted"):
        unpacked(file, tmp_path / "wrong", [keys[1]])
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(BackupDamaged, match="can't be decrypted"):
        unpacked(file, tmp_path / "changed", [keys[0]])


@pytest.mark.parametrize("text", ["age1nonsense", "", "AGE-SECRET-KEY-1"])
def test_what_is_no_key_is_refused_and_a_secret_one_is_not_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(UsageError, match="no public key"):
        read_recipients([text])
    with pytest.raises(UsageError, match="holds no secret key") as refused:
        read_identities(tmp_path / "key")
    assert "SECRET" not in refused.value.message


def test_a_file_that_exists_is_never_written_over(tmp_path: Path, sources: dict[str, Path]) -> None:
    (tmp_path / "backup").write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        write_archive(tmp_path / "backup", manifest(describe_files(sources)), sources, [])
    assert (tmp_path / "backup").read_text() == "precious"


@pytest.mark.parametrize("content", [b"short", b"the same size is no help...."])
def test_a_source_that_changes_meanwhile_leaves_no_backup(
    tmp_path: Path, sources: dict[str, Path], content: bytes
) -> None:
    described = manifest(describe_files(sources))
    sources["home/tokens.json"].write_bytes(content)
    with pytest.raises(Undecided, match=r"tokens\.json was changed"):
        write_archive(tmp_path / "backup", described, sources, [])
    assert not list(tmp_path.glob("backup*"))


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_backup_that_was_cut_or_changed_is_refused(tmp_path: Path, sources: dict[str, Path], place: float) -> None:
    # What can't be squeezed shows wherever it is hit.
    sources["home/tokens.json"].write_bytes(secrets.token_bytes(500_000))
    write_archive(tmp_path / "backup", manifest(describe_files(sources)), sources, [])
    whole = (tmp_path / "backup").read_bytes()
    at = int(len(whole) * place)
    for number, content in enumerate((whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], b"")):
        (tmp_path / f"bad-{number}").write_bytes(content)
        with pytest.raises(BackupDamaged):
            unpacked(tmp_path / f"bad-{number}", tmp_path / f"out-{number}")


HOSTILE: dict[str, Callable[[bytes], list[tuple[tarfile.TarInfo, bytes]]]] = {
    "another name": lambda body: [(entry("home/b", body), body)],
    "a way out": lambda body: [(entry("../a", body), body)],
    "other bytes": lambda body: [(entry("home/a", body), b"x" * len(body))],
    "another size": lambda body: [(entry("home/a", body + body), body + body)],
    "nothing": lambda body: [],
    "more": lambda body: [(entry("home/a", body), body), (entry("home/b", body), body)],
    "a link": lambda body: [(entry("home/a", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")],
    "a hard link": lambda body: [(entry("home/a", b"", type=tarfile.LNKTYPE, linkname="manifest.json"), b"")],
    "a device": lambda body: [(entry("home/a", b"", type=tarfile.CHRTYPE), b"")],
    "a folder": lambda body: [(entry("home/a", b"", type=tarfile.DIRTYPE), b"")],
    "a huge header": lambda body: [(entry("home/a", body, pax_headers={"comment": "x" * 100_000}), body)],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_archive_that_holds_what_its_manifest_does_not_name_is_refused(tmp_path: Path, what: str) -> None:
    body = b"content"
    (tmp_path / "a").write_bytes(body)
    described = manifest(describe_files({"home/a": tmp_path / "a"}))
    file = packed(tmp_path / "backup", HOSTILE[what](body), described)
    with pytest.raises(BackupDamaged):
        unpacked(file, tmp_path / "out")
    assert not (tmp_path / "out" / ".." / "b").exists()
    good = packed(tmp_path / "good", [(entry("home/a", body), body)], described)
    assert unpacked(good, tmp_path / "in") == {"home/a": body}


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/passwd", "home/../../x", "home//x", "home/", "a\\b", "a\nb", "a\0b", "x" * 2000, "h/."],
)
def test_a_name_that_leaves_its_folder_is_no_manifest(tmp_path: Path, name: str) -> None:
    told = manifest([BackedUpFile(name="home/a", bytes=0, sha256="0" * 64)]).model_dump_json()
    with pytest.raises(BackupDamaged):
        Manifest.read(told.replace('"home/a"', '"' + name.replace("\\", "\\\\").replace("\n", "\\n") + '"').encode())


def test_a_file_that_is_named_twice_or_holds_another_is_no_manifest() -> None:
    def file(name: str) -> BackedUpFile:
        return BackedUpFile(name=name, bytes=0, sha256="0" * 64)

    for names in (("home/a", "home/a"), ("home/a", "home/a/b")):
        with pytest.raises(ValueError, match="a file is"):
            manifest([file(name) for name in names])


def test_a_backup_that_needs_more_room_than_there_is_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    described = manifest([BackedUpFile(name="home/a", bytes=1 << 60, sha256="0" * 64)])
    file = packed(tmp_path / "backup", [], described)
    with pytest.raises(UsageError, match="are free"):
        unpacked(file, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_backup_whose_manifest_would_not_be_read_back_is_not_written(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    described = manifest(describe_files(sources), formats={"padding": ""})
    room = MANIFEST_LIMIT_BYTES - len(described.content())
    fits = described.model_copy(update={"formats": {"padding": "x" * room}})
    write_archive(tmp_path / "fits", fits, sources, [])
    assert unpacked(tmp_path / "fits", tmp_path / "out") == FILES
    with pytest.raises(UsageError, match="2 files are too many for a backup, 1 of them in home/") as refused:
        write_archive(
            tmp_path / "backup", fits.model_copy(update={"formats": {"padding": "x" * (room + 1)}}), sources, []
        )
    assert "mlflow gc" in refused.value.next
    assert not list(tmp_path.glob("backup*"))


def test_a_newer_backup_is_refused_with_both_versions() -> None:
    told = manifest([]).model_dump_json()
    with pytest.raises(UsageError, match=rf"version {FORMAT + 1}, and this Slipway reads {FORMAT}"):
        Manifest.read(told.replace(f'"format":{FORMAT}', f'"format":{FORMAT + 1},"of_later":1').encode())
    known: dict[str, int | str] = {"records": 4, "mlflow": "3.17.0"}
    manifest([], formats={"records": 4, "mlflow": "3.9.2"}).refuse_newer(known)
    for formats in ({"records": 5}, {"mlflow": "3.17.1"}, {"mlflow": "4.0"}, {"of_later": 1}):
        with pytest.raises(UsageError, match="and this Slipway reads"):
            manifest([], formats=formats).refuse_newer(known)


def test_a_file_with_holes_is_refused_before_its_map_is_read(tmp_path: Path) -> None:
    endless = b"999999999\n" + b"0\n" * 1000
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "home/x", "GNU.sparse.realsize": "9"}
    header = entry("home/x", endless, pax_headers=sparse)
    file = packed(
        tmp_path / "backup", [(header, endless)], manifest((BackedUpFile(name="home/x", bytes=9, sha256="0" * 64),))
    )
    with pytest.raises(BackupDamaged, match="holes"):
        unpacked(file, tmp_path / "out")
