"""The container engine's API, connected when first needed; whatever it refuses is a refusal of ours."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker
from docker.errors import APIError, DockerException
from docker.utils.socket import STDERR, frames_iter

from pipelines.adapters.exchange import deadline
from pipelines.errors import TargetUnavailable, Undecided, UsageError

_INSIDE_S = 600.0


class DockerEngine:
    """One engine, such as `unix:///var/run/docker.sock`; it answers each request within `timeout_s`."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._client: docker.APIClient | None = None

    @contextmanager
    def api(self) -> Iterator[docker.APIClient]:
        """Lend the client of the engine's API; what fails in the block becomes TargetUnavailable."""
        try:
            if self._client is None:
                # Its own version: a newer engine refuses old ones, an older one does not know the newest.
                self._client = docker.APIClient(self._url, version="auto", timeout=self._timeout_s)
            yield self._client
        except (DockerException, OSError) as error:
            reason = getattr(error, "explanation", None) or error
            raise TargetUnavailable(f"the container engine {self._url}: {reason}", next='run "make up"') from error

    def log_in(self, registry: str, user: str, password: str, *, authority: Path | None) -> None:
        """Let the engine log in to an image registry, for what is pushed there and for what services pull from now on.

        Raises UsageError when the engine does not trust the registry's certificate, which only its host can change.
        """
        with self.api() as api:
            try:
                api.login(user, password, registry=registry, reauth=True)
            except APIError as error:
                said = str(error.explanation or error)
                if "x509" not in said and "certificate" not in said:
                    raise
                source = authority or "the certificate of who signed it"
                raise UsageError(
                    f"the container engine does not trust the image registry {registry}: {said}",
                    next=f'on every node copy {source} to /etc/docker/certs.d/{registry}/ca.crt, then "make up" again',
                ) from error

    def push(self, image: str, repository: str) -> str:
        """Push an image to a registry, by a tag that is the beginning of its id; return `repository@sha256:<hex>`.

        Raises Undecided when the registry refuses.
        """
        tag = image.rpartition(":")[2][:12]
        with self.api() as api:
            api.tag(image, repository, tag)
            said = list(api.push(repository, tag, stream=True, decode=True))
            api.remove_image(f"{repository}:{tag}", noprune=True)
        errors = [line["error"] for line in said if "error" in line]
        if errors:
            raise Undecided(f"the image registry refuses {repository}: {errors[0]}", next='"make up" again')
        (digest,) = [line["aux"]["Digest"] for line in said if "Digest" in line.get("aux", ())]
        return f"{repository}@{digest}"

    def close(self) -> None:
        """Give the connections back; the next call opens new ones."""
        if self._client:
            self._client.close()
            self._client = None

    def run_inside(self, name: str, command: list[str]) -> tuple[int, str]:
        """Run a command in a running container; return its exit status and what it wrote, errors if nothing else.

        `name` is the container's, or the service's that it is the only task of on this engine.
        """
        output = bytearray()
        status, errors = self.stream_inside(name, command, output.extend)
        return status, output.decode(errors="replace") or errors

    def stream_inside(
        self, name: str, command: list[str], keep: Callable[[bytes], object], *, limit_s: float = _INSIDE_S
    ) -> tuple[int, str]:
        """Run a command as `run_inside` does, pass what it writes to `keep`; return its exit status and its errors.

        Raises TargetUnavailable when the stream ends before the command does, by the engine or after `limit_s`.
        """
        errors = bytearray()
        cut_off = TargetUnavailable(f"{name}: {command[0]} was cut off", next='run "make up", then try again')
        with self.api() as api:
            run = api.exec_create(self._container(api, name), command)["Id"]
            # Read here: the stream that the library offers ends without a word when its connection breaks.
            stream = api.exec_start(run, socket=True)
            try:
                # The library hands the response over with its socket, and leaves closing it to whoever reads.
                with closing(stream._response), deadline(limit_s) as until:
                    with socket.socket(fileno=os.dup(stream.fileno())) as connection:
                        until.watch(connection)
                    for source, written in frames_iter(stream, tty=False):
                        if source == STDERR:
                            errors += written
                        else:
                            keep(written)
            except TimeoutError as error:
                raise cut_off from error
            status = api.exec_inspect(run)["ExitCode"]
        if status is None:
            raise cut_off
        return int(status), errors.decode(errors="replace")

    def _container(self, api: docker.APIClient, name: str) -> str:
        for container in api.containers(filters={"name": name}):
            found = [each.lstrip("/") for each in container["Names"]]
            # A service's container has the task's number and id behind the service's name.
            if any(each == name or each.startswith(f"{name}.") for each in found):
                return str(container["Id"])
        raise TargetUnavailable(f"{name} does not run on the container engine {self._url}", next='run "make up"')
