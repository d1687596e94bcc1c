"""Where an installation is published: what is taken, and what is refused before anything is changed."""

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.settings.binding import ON_LOOPBACK, Binding
from pipelines.settings.settings import Settings

EXPOSED = {"SLIPWAY_BIND": "0.0.0.0", "SLIPWAY_EXTERNAL_URL": "https://ml.example.com"}
OWN = {"SLIPWAY_TLS_CERT": "/etc/own.pem", "SLIPWAY_TLS_KEY": "/etc/own.key"}
MADE = {"SLIPWAY_TLS": "generate"}


def test_an_empty_environment_is_published_on_loopback_only() -> None:
    assert Binding.from_environ({}) == Binding.from_environ(dict.fromkeys(Binding().as_environ(), "")) == ON_LOOPBACK
    assert (ON_LOOPBACK.address, ON_LOOPBACK.base_url, ON_LOOPBACK.exposed) == (
        "127.0.0.1", "http://127.0.0.1", False,
    )  # fmt: skip


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3"])
def test_another_loopback_address_is_taken(address: str) -> None:
    binding = Binding.from_environ({"SLIPWAY_BIND": address})
    assert (binding.base_url, binding.registry_host, binding.exposed) == (f"http://{address}", address, False)


@pytest.mark.parametrize("address", ["10.0.0.5", "0.0.0.1", "::", "localhost", "127.0.0.300", "127.evil.com", "*"])
def test_an_address_that_is_neither_loopback_nor_every_one_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="SLIPWAY_BIND"):
        Binding.from_environ({**EXPOSED, **MADE, "SLIPWAY_BIND": address})


def test_beyond_loopback_nothing_is_published_without_tls() -> None:
    with pytest.raises(UsageError, match=r"binding to 0\.0\.0\.0 needs TLS"):
        Binding.from_environ(EXPOSED)


@pytest.mark.parametrize("tls", [OWN, {**OWN, "SLIPWAY_TLS_CA": "/etc/ca.pem"}, MADE])
def test_beyond_loopback_links_and_images_have_the_external_name(tls: dict[str, str]) -> None:
    binding = Binding.from_environ({**EXPOSED, **tls})
    assert binding.exposed
    assert (binding.base_url, binding.name) == ("https://ml.example.com", "ml.example.com")
    assert binding.registry_host == "ml.example.com"


@pytest.mark.parametrize("url", ["", "http://ml.example.com", "https://10.0.0.5", "https://localhost"])
def test_beyond_loopback_a_name_is_needed_that_containers_can_use_too(url: str) -> None:
    with pytest.raises(UsageError, match="needs the name"):
        Binding.from_environ({**EXPOSED, **MADE, "SLIPWAY_EXTERNAL_URL": url})


@pytest.mark.parametrize(
    "url", ["ml.example.com", "https://ml.example.com:8443", "https://ml.example.com/", "ftp://a", "https://A.b"]
)
def test_an_external_url_that_is_more_or_less_than_a_name_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="SLIPWAY_EXTERNAL_URL"):
        Binding.from_environ({"SLIPWAY_EXTERNAL_URL": url})


def test_on_loopback_engines_keep_the_address_whatever_links_show() -> None:
    binding = Binding.from_environ({"SLIPWAY_EXTERNAL_URL": "https://ml.example.com"})
    assert (binding.base_url, binding.registry_host) == ("https://ml.example.com", "127.0.0.1")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"SLIPWAY_TLS_CERT": "/etc/own.pem"}, "belong together"),
        ({"SLIPWAY_TLS_KEY": "/etc/own.key"}, "belong together"),
        ({**OWN, **MADE}, "generate"),
        ({**MADE, "SLIPWAY_TLS_CA": "/etc/ca.pem"}, "generate"),
        ({"SLIPWAY_TLS": "yes"}, "SLIPWAY_TLS="),
    ],
)
def test_settings_of_tls_that_contradict_each_other_are_refused(given: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Binding.from_environ({**EXPOSED, **given})


@pytest.mark.parametrize("tls", [OWN, MADE])
def test_a_certificate_on_loopback_is_refused(tls: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"no use on 127\.0\.0\.1"):
        Binding.from_environ(tls)


def test_processes_of_one_machine_are_published_nowhere_else() -> None:
    with pytest.raises(UsageError, match="TARGET=local"):
        Settings.from_environ({**EXPOSED, **MADE})


def test_everything_on_containers_is_asked_by_the_external_name_and_trusts_the_made_authority(tmp_path: Path) -> None:
    environ = {**EXPOSED, **MADE, "TARGET": "docker", "SLIPWAY_HOME": str(tmp_path)}
    settings = Settings.from_environ(environ)
    assert settings.api_url == "https://ml.example.com:8080"
    assert settings.mlflow_url == "https://ml.example.com:5000"
    child = settings.child_environ({"NO_PROXY": "10.0.0.1"})
    assert Settings.from_environ(child) == settings
    bundles = {child[f"{library}_CA_BUNDLE"] for library in ("AWS", "REQUESTS")} | {child["SSL_CERT_FILE"]}
    assert bundles == {str(tmp_path / "ca.crt")}
    assert child["NO_PROXY"] == "10.0.0.1,127.0.0.1,localhost,ml.example.com"


def test_an_own_authority_is_trusted_and_one_that_everybody_knows_needs_nothing(tmp_path: Path) -> None:
    own = {**EXPOSED, **OWN, "TARGET": "docker"}
    named = Settings.from_environ({**own, "SLIPWAY_TLS_CA": str(tmp_path / "ca.pem")})
    assert named.child_environ({})["REQUESTS_CA_BUNDLE"] == str(tmp_path / "ca.pem")
    known = Settings.from_environ(own)
    assert known.authority_file is None and "REQUESTS_CA_BUNDLE" not in known.child_environ({})
