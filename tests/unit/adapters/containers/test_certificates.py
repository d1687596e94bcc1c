"""Certificates made and checked; whether one holds is asked of a TLS handshake, not of the code that made it."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pipelines.adapters.containers.certificates import (
    CERTIFICATE_DAYS,
    RENEW_DAYS,
    Certified,
    check,
    ends,
    is_authority_due,
    is_due,
    issue,
    make_authority,
)
from pipelines.errors import UsageError

NAME = "ml.example.com"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> Certified:
    return make_authority(NAME, NOW)


@pytest.fixture(scope="module")
def made(authority: Certified) -> Certified:
    return issue(authority, NAME, NOW)


def shake_hands(directory: Path, shown: Certified, trusted: str, name: str) -> None:
    """Do a TLS handshake in memory, in which a client that trusts `trusted` asks for `name`; raise what it raises."""
    (directory / "shown.pem").write_text(shown.certificate + shown.key)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(directory / "shown.pem")
    client_side = ssl.create_default_context(cadata=trusted)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() == "TLSv1.3"


def test_who_trusts_the_authority_takes_its_certificate(tmp_path: Path, authority: Certified, made: Certified) -> None:
    shake_hands(tmp_path, made, authority.certificate, NAME)
    check(made, NAME, NOW, authority=authority.certificate)


def test_nobody_takes_it_for_another_name_or_from_another_authority(
    tmp_path: Path, authority: Certified, made: Certified
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(tmp_path, made, authority.certificate, "other.example.com")
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shake_hands(tmp_path, made, make_authority(NAME, NOW).certificate, NAME)


def test_an_authority_can_speak_for_its_own_name_only(tmp_path: Path, authority: Certified) -> None:
    foreign = issue(authority, "bank.example.org", NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        shake_hands(tmp_path, foreign, authority.certificate, "bank.example.org")


def test_a_certificate_of_one_name_and_its_key_are_taken_and_the_key_is_not_shown(made: Certified) -> None:
    check(made, NAME, NOW)
    assert "PRIVATE KEY" in made.key and made.key not in repr(made)
    assert abs(ends(made.certificate) - (NOW + timedelta(days=CERTIFICATE_DAYS))) < timedelta(seconds=2)


def test_a_key_of_another_certificate_is_refused(authority: Certified, made: Certified) -> None:
    with pytest.raises(UsageError, match="does not belong"):
        check(Certified(made.certificate, issue(authority, NAME, NOW).key), NAME, NOW)


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (NOW + timedelta(days=CERTIFICATE_DAYS, minutes=1), "expired on"),
        (NOW - timedelta(hours=2), "not valid before"),
    ],
)
def test_a_certificate_outside_of_its_time_is_refused(made: Certified, at: datetime, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check(made, NAME, at)


@pytest.mark.parametrize("name", ["other.example.com", "example.com", "a.ml.example.com"])
def test_a_certificate_for_another_name_is_refused(made: Certified, name: str) -> None:
    with pytest.raises(UsageError, match=rf"is for {NAME}, not for {name}"):
        check(made, name, NOW)


def test_a_star_stands_for_one_part_of_a_name(authority: Certified) -> None:
    starred = issue(authority, "*.example.com", NOW)
    check(starred, NAME, NOW)
    for name in ("a.ml.example.com", "example.com"):
        with pytest.raises(UsageError, match="not for"):
            check(starred, name, NOW)


def test_an_authority_that_did_not_sign_it_is_refused(authority: Certified, made: Certified) -> None:
    other = make_authority(NAME, NOW)
    with pytest.raises(UsageError, match="not signed by"):
        check(made, NAME, NOW, authority=other.certificate)
    check(made, NAME, NOW, authority=other.certificate + authority.certificate)


def test_what_is_no_certificate_or_key_is_refused_without_its_content(made: Certified) -> None:
    for wrong in (Certified("canary", made.key), Certified(made.certificate, "canary")):
        with pytest.raises(UsageError, match="PEM") as refused:
            check(wrong, NAME, NOW)
        assert "canary" not in str(refused.value) and refused.value.__cause__ is None


def test_a_key_with_a_passphrase_is_refused(made: Certified) -> None:
    key = serialization.load_pem_private_key(made.key.encode(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(UsageError, match="passphrase"):
        check(Certified(made.certificate, locked.decode()), NAME, NOW)


def test_a_made_certificate_is_due_for_another_name_and_a_month_before_its_end(made: Certified) -> None:
    end = ends(made.certificate)
    assert not is_due(made.certificate, NAME, end - timedelta(days=RENEW_DAYS, hours=1))
    assert is_due(made.certificate, NAME, end - timedelta(days=RENEW_DAYS - 1))
    assert is_due(made.certificate, "other.example.com", NOW)


def test_an_authority_is_due_before_it_could_end_under_what_it_signs(authority: Certified) -> None:
    end = ends(authority.certificate)
    assert not is_authority_due(authority.certificate, NAME, end - timedelta(days=CERTIFICATE_DAYS, hours=1))
    assert is_authority_due(authority.certificate, NAME, end - timedelta(days=CERTIFICATE_DAYS - 1))
    assert is_authority_due(authority.certificate, "other.example.com", NOW)
