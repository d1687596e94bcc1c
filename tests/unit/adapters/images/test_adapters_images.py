"""What names an image, and what is refused before and in a build; the client is a script that answers as told."""

import re
import stat
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from pipelines.adapters.images.build import BASE, build_images, image_names, pack_inputs
from pipelines.errors import EngineUnavailable, ImageUnavailable, UsageError
from pipelines.settings.settings import ROOT

DOCKERFILE = f"""ARG BASE={BASE}
FROM ${{BASE}} AS build
COPY --chmod=755 code tools/run \\
    /srv/
FROM ${{BASE}}
COPY --from=build /srv /srv
"""
# Answers as the engine's client would: images it knows are lines "reference id" in the file `known`.
CLIENT = r"""#!/bin/bash
here=$(dirname "$0")
printf '%s\n' "$*" >>"$here/calls"
case $1 in
  version) cat "$here/version" && [ -s "$here/version" ] || { echo "Cannot connect to the daemon" >&2; exit 1; } ;;
  image) grep "^${!#} " "$here/known" | cut -d' ' -f2 | grep . ;;
  pull) cat "$here/pullable" >>"$here/known"; [ -s "$here/pullable" ] ;;
  build)
    cat >"$here/context.tar"
    printf '%s' "$DOCKER_BUILDKIT" >"$here/buildkit"
    if [ -s "$here/failure" ]; then cat "$here/failure" >&2; exit 1; fi
    while [ $# -gt 0 ]; do
      case $1 in --iidfile) printf 'sha256:built' >"$2" ;; --tag) echo "$2 sha256:built" >>"$here/known" ;; esac
      shift
    done ;;
esac
"""


class Machine:
    """A machine with a client on disk, and a repository with one image."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "repository"
        self._client = directory / "client"
        self._client.mkdir()
        for name, content in {
            "docker": CLIENT,
            "version": "20.10.24\n",
            "known": f"{BASE} sha256:base\n",
            "pullable": "",
            "failure": "",
            "calls": "",
        }.items():
            self.let(name, content)
        (self._client / "docker").chmod(0o755)
        self.write("infra/images/one/Dockerfile", DOCKERFILE)
        self.write("code/main.py", "print(1)\n")
        self.write("tools/run", "#!/bin/sh\n")
        self.environ = {"SLIPWAY_DOCKER": str(self._client / "docker"), "PATH": "/usr/bin:/bin"}
        self.told: list[str] = []

    def let(self, name: str, content: str) -> None:
        (self._client / name).write_text(content)

    def read(self, name: str) -> str:
        return (self._client / name).read_text()

    def write(self, path: str, content: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content)

    def build(self, *names: str) -> dict[str, str]:
        return build_images(self.root, names, report_progress=self.told.append, environ=self.environ)

    def tag(self) -> str:
        """The tag of the one image as its inputs are now."""
        self.let("calls", "")
        self.let("known", "\n".join(line for line in self.read("known").splitlines() if BASE in line) + "\n")
        self.build()
        found = re.search(r"--tag (\S+)", self.read("calls"))
        assert found
        return found[1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_missing_image_is_built_tagged_by_its_inputs_and_told(machine: Machine) -> None:
    assert machine.build() == {"one": "sha256:built"}
    assert re.fullmatch(r"building slipway/one:[0-9a-f]{12}", machine.told[0])
    assert machine.read("buildkit") == "1"


def test_an_image_that_is_there_is_not_built_again(machine: Machine) -> None:
    machine.build()
    machine.let("calls", "")
    assert machine.build("one") == {"one": "sha256:built"}
    assert "build" not in [line.split()[0] for line in machine.read("calls").splitlines()]


def test_the_same_inputs_give_the_same_tag(machine: Machine) -> None:
    first = machine.tag()
    machine.write("code/main.py", "print(1)\n")
    machine.write("code/__pycache__/main.pyc", "compiled")
    machine.write("unread.txt", "no Dockerfile copies it")
    assert machine.tag() == first


def _change_a_file(machine: Machine) -> None:
    machine.write("code/main.py", "print(2)\n")


def _add_a_file(machine: Machine) -> None:
    machine.write("code/deep/new.py", "")


def _rename_a_file(machine: Machine) -> None:
    (machine.root / "code/main.py").rename(machine.root / "code/other.py")


def _make_a_file_executable(machine: Machine) -> None:
    path = machine.root / "code/main.py"
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _change_the_recipe(machine: Machine) -> None:
    machine.write("infra/images/one/Dockerfile", DOCKERFILE + "USER 10001\n")


def _change_the_base(machine: Machine) -> None:
    machine.let("known", f"{BASE} sha256:newer-base\n")


@pytest.mark.parametrize(
    "change",
    [
        _change_a_file,
        _add_a_file,
        _rename_a_file,
        _make_a_file_executable,
        _change_the_recipe,
        _change_the_base,
    ],
)
def test_another_input_gives_another_tag(machine: Machine, change: Callable[[Machine], None]) -> None:
    first = machine.tag()
    change(machine)
    assert machine.tag() != first


def test_a_build_sees_what_its_dockerfile_copies_and_nothing_else(machine: Machine) -> None:
    machine.write("secret.txt", "not copied")
    with tarfile.open(fileobj=BytesIO(pack_inputs(machine.root, "one"))) as archive:
        assert archive.getnames() == ["code/main.py", "infra/images/one/Dockerfile", "tools/run"]


def test_a_copied_file_that_is_not_there_is_named(machine: Machine) -> None:
    (machine.root / "tools/run").unlink()
    with pytest.raises(UsageError, match="infra/images/one/Dockerfile copies tools/run, which is not there"):
        machine.build()


def test_an_unknown_image_is_refused_with_the_names(machine: Machine) -> None:
    with pytest.raises(UsageError, match="no image 'two'") as refused:
        machine.build("one", "two")
    assert refused.value.next == "one of: one"


def test_no_client_is_refused(machine: Machine) -> None:
    machine.environ["SLIPWAY_DOCKER"] = "/nowhere/docker"
    with pytest.raises(EngineUnavailable, match="/nowhere/docker can't be run: No such file") as refused:
        machine.build()
    assert "SLIPWAY_DOCKER" in refused.value.next


def test_an_engine_that_does_not_answer_is_refused_with_what_the_client_says(machine: Machine) -> None:
    machine.let("version", "")
    with pytest.raises(EngineUnavailable, match="no container engine answers: Cannot connect to the daemon") as refused:
        machine.build()
    assert "make offline" in refused.value.next


@pytest.mark.parametrize("version", ["19.03.15", "20.9.1", "1.13", "unknown"])
def test_an_engine_that_is_too_old_is_refused_with_its_version(machine: Machine, version: str) -> None:
    machine.let("version", version)
    with pytest.raises(EngineUnavailable, match=f"the engine is {version}, which is older than 20.10"):
        machine.build()


@pytest.mark.parametrize("version", ["20.10.0", "20.10.24+dfsg1", "29.0.1"])
def test_an_engine_that_is_new_enough_is_used(machine: Machine, version: str) -> None:
    machine.let("version", version)
    assert machine.build() == {"one": "sha256:built"}


def test_a_missing_base_is_pulled(machine: Machine) -> None:
    machine.let("known", "")
    machine.let("pullable", f"{BASE} sha256:base\n")
    assert machine.build() == {"one": "sha256:built"}
    assert machine.told[0] == f"pulling {BASE}"


def test_a_base_that_can_not_be_pulled_is_refused_with_both_ways_to_get_it(machine: Machine) -> None:
    machine.let("known", "")
    with pytest.raises(ImageUnavailable, match=f"{BASE} is missing") as refused:
        machine.build()
    assert refused.value.next == f'"make offline", or: docker pull {BASE}'


def test_a_failed_build_shows_the_last_lines_of_its_log(machine: Machine) -> None:
    machine.let("failure", "\n".join(f"line {number}" for number in range(100)) + "\n")
    with pytest.raises(ImageUnavailable, match=r"building one failed:\nline 80\n(.*\n)*line 99$"):
        machine.build()
    assert "slipway/one" not in machine.read("known")


def test_a_failed_build_shows_the_step_that_failed_and_not_those_beside_it(machine: Machine) -> None:
    lines = ["#8 no wheel for this Python", "#8 ERROR: exit code: 1", "#14 fetching", "#14 CANCELED", "------"]
    machine.let("failure", "\n".join(lines) + "\n")
    with pytest.raises(ImageUnavailable, match=r"failed:\n#8 no wheel for this Python\n#8 ERROR: exit code: 1$"):
        machine.build()


def test_certificates_of_this_machine_are_a_secret_of_the_build(machine: Machine, tmp_path: Path) -> None:
    bundle = tmp_path / "authorities.pem"
    bundle.write_text("certificates")
    machine.environ["PIP_CERT"] = str(bundle)
    machine.build()
    assert f"--secret id=ca,src={bundle}" in machine.read("calls")


@pytest.mark.parametrize("name", image_names(ROOT))
def test_a_recipe_has_two_stages_from_the_one_base_and_ends_as_nobody_special(name: str) -> None:
    lines = (ROOT / "infra/images" / name / "Dockerfile").read_text().splitlines()
    assert f"ARG BASE={BASE}" in lines
    stages = [line.split() for line in lines if line.startswith("FROM ")]
    assert len(stages) >= 2
    assert {stage[1] for stage in stages} == {"${BASE}"}
    last = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in last if line.startswith("USER ")] == ["USER 10001:10001"]
    assert [line for line in last if line.startswith("HEALTHCHECK ")] != []
    assert pack_inputs(ROOT, name)


@pytest.mark.parametrize("name", image_names(ROOT))
def test_a_recipe_takes_python_packages_by_hash_alone(name: str) -> None:
    text = (ROOT / "infra/images" / name / "Dockerfile").read_text().replace("\\\n", " ")
    commands = [command for line in text.splitlines() for command in line.split("&&")]
    commands = [command for command in commands if re.search(r"\bpip\b.* (install|wheel) ", command)]
    fetching = [command for command in commands if "apt-get" not in command and "--no-index" not in command]
    assert [command for command in fetching if "--require-hashes" not in command] == []


def test_every_image_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "infra/images/README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == image_names(ROOT)
