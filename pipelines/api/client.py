"""Talks to the API for the command line: one request a call, and one stream for waiting with visible progress.

Uses urllib because every verb starts with it, and importing an HTTP library takes longer than the verb.
"""

import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, HTTPResponse
from typing import Any

from pipelines.api.listener import stranger_on
from pipelines.errors import ApiUnavailable, OtherInstallation, SlipwayError, Undecided, UsageError
from pipelines.settings.installation import HEADER, installation_id
from pipelines.settings.models import model_name
from pipelines.settings.settings import Settings

# An executor shows itself every other second; one that did not for so long is dead or frozen.
SILENT_S = 10.0
# A stream without a word for so long is dead: the API sends one at least every 5 s.
STREAM_S = 15.0
# So long a waiting verb asks an API that is away.
PATIENCE_S = 60.0
RETRY_S = 0.3

ProgressReporter = Callable[[str], None]


@dataclass(frozen=True)
class _Message:
    """One server-sent event."""

    event: str
    id: str
    data: dict[str, Any]


def executor_silence(status: dict[str, Any]) -> str:
    """Say what the API's status tells of an executor that does not show itself, or "" when it does.

    How long it has not, the API tells. Of one of before that does not, the clocks on the walls are all there is.
    """
    sign = status["executor"]
    seen_at, age_s = sign["heartbeat_at"], sign.get("age_s")
    if seen_at and age_s is None:
        age_s = (datetime.now(UTC) - datetime.fromisoformat(seen_at)).total_seconds()
    if seen_at and age_s < SILENT_S:
        return ""
    since = f"was last seen at {seen_at}" if seen_at else "has never been there"
    return f'the executor {since}: "make up" starts it, and what was asked for goes on'


def direct_opener(settings: Settings) -> urllib.request.OpenerDirector:
    """Return what asks an installation: without a proxy of the environment, trusting the installation's certificate."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if settings.authority_file:
        try:
            context = ssl.create_default_context(cafile=settings.authority_file)
        except OSError as error:
            raise UsageError(f"{settings.authority_file} can't be used: {error}", next='run "make up" first') from error
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


class ApiClient:
    """Calls the API of one installation as one person; every call ends within `timeout_s`.

    Each request names its model, the project's own if none is given: an installation that has not got it refuses it.
    """

    def __init__(
        self,
        settings: Settings,
        token: str,
        timeout_s: float = 30.0,
        patience_s: float = PATIENCE_S,
        *,
        model: str = "",
    ) -> None:
        self._url = settings.api_url
        self._model = model or model_name(settings.project)
        self._token = token
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._opener = direct_opener(settings)
        self._home = settings.home
        self._installation = installation_id(settings)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET a path below /api/v1; raise the refusal that the API answered with."""
        return self._send(f"{path}?{urllib.parse.urlencode({'model': self._model, **query})}", None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON to a path below /api/v1; raise the refusal that the API answered with."""
        return self._send(path, json.dumps({"model": self._model, **body}).encode())

    def wait(
        self,
        path: str,
        report_progress: ProgressReporter,
        *,
        until: Callable[[dict[str, Any]], bool] | None = None,
    ) -> dict[str, Any]:
        """Follow work until it has ended, or `until` holds, telling each new step; raise its error.

        Where nothing happens because nobody carries it out, that is told as well. An API that is away is asked again
        for `patience_s`; then ApiUnavailable says that the work goes on.
        """
        told = 0
        for work in self._states(path, report_progress):
            for line in work["steps"][told:]:
                report_progress(f"{line['step']}: {line['message']}" if line["message"] else line["step"])
            told = len(work["steps"])
            if work["state"] == "stopped":
                raise SlipwayError.from_dict(work["error"])
            if work["state"] == "done" or (until and until(work)):
                return work
        raise AssertionError("states of work never end by themselves")

    def _states(self, path: str, report_progress: ProgressReporter) -> Iterator[dict[str, Any]]:
        """Yield each state of work as the API sends it, through broken connections, for as long as somebody asks."""
        heard_at, last_id, warned = time.monotonic(), "", ""
        while True:
            trouble = f"the API at {self._url} ended the stream"
            try:
                for message in self._messages(f"{path}/events", last_id):
                    heard_at = time.monotonic()
                    if message.event == "executor":
                        silence = executor_silence({"executor": message.data})
                        if silence and not warned:
                            report_progress(silence)
                        warned = silence
                    else:
                        last_id = message.id
                        yield message.data
            except SlipwayError as error:
                # What failed is the asking, not the work: only a no of the API ends it.
                if error.exit_code not in (SlipwayError.exit_code, Undecided.exit_code):
                    raise
                trouble = error.message
            if time.monotonic() - heard_at > self._patience_s:
                raise ApiUnavailable(
                    f"{trouble}; asked for {self._patience_s:g} s", next='the work goes on: see "slipway status"'
                )
            time.sleep(RETRY_S)

    def _messages(self, path: str, last_id: str) -> Iterator["_Message"]:
        """Yield the messages of a stream of server-sent events until it ends; raise ApiUnavailable when it breaks."""
        query = urllib.parse.urlencode({"model": self._model})
        with self._opened(f"{path}?{query}", None, {"Last-Event-ID": last_id}, timeout_s=STREAM_S) as response:
            fields: dict[str, str] = {}
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                    continue
                yield _Message(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
                fields = {}

    def follow(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the state at `path` each time that its stream tells it; raise ApiUnavailable when that breaks.

        While nothing changes it is told again every few seconds, with the last sign of the executor as `executor`.
        """
        state: dict[str, Any] = {}
        for message in self._messages(f"{path}/events", ""):
            if message.event == "executor":
                yield {**state, "executor": message.data}
            else:
                state = message.data
                yield state

    def ask(self, path: str, body: dict[str, Any], report_progress: ProgressReporter) -> dict[str, Any]:
        """POST what makes work at `path`, and wait for its end as `wait` does."""
        return self.wait(f"{path}/{self.post(path, body)['id']}", report_progress)

    def _send(self, path: str, content: bytes | None) -> dict[str, Any]:
        with self._opened(path, content, {}, timeout_s=self._timeout_s) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    @contextmanager
    def _opened(
        self, path: str, content: bytes | None, headers: dict[str, str], *, timeout_s: float
    ) -> Iterator[HTTPResponse]:
        """Send a request and hand out its response for a block; raise the refusal, or ApiUnavailable."""
        given = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **headers}
        if self._installation:
            given[HEADER] = self._installation
        request = urllib.request.Request(f"{self._url}/api/v1{path}", data=content, headers=given)
        self._refuse_stranger()
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                self._check_installation(response.headers.get(HEADER))
                yield response
        except urllib.error.HTTPError as error:
            with error:
                self._check_installation(error.headers.get(HEADER))
                raise self._refusal(error) from error
        except (OSError, HTTPException, json.JSONDecodeError) as error:
            raise ApiUnavailable(
                f"the API at {self._url} does not answer: {error}",
                next='run "make up"; what was asked for before goes on by itself',
            ) from error

    def _refuse_stranger(self) -> None:
        """Raise ApiUnavailable before a token is sent to another user's process; with TLS a certificate proves more."""
        parts = urllib.parse.urlsplit(self._url)
        if parts.scheme == "https" or not (parts.hostname and parts.port):
            return
        stranger = stranger_on(parts.hostname, parts.port)
        if stranger is not None:
            raise ApiUnavailable(
                f"on port {parts.port}, the API's of {self._home}, listens a process of user {stranger}",
                next='end that process, or run "make up"; your token was not sent to it',
            )

    def _check_installation(self, told: str | None) -> None:
        """Raise OtherInstallation when the API says that it is another one's; an earlier one says nothing."""
        if told and self._installation and told != self._installation:
            raise OtherInstallation(
                f"the API at {self._url} is of installation {told}, and {self._home} has {self._installation}",
                next='name the home of that installation by SLIPWAY_HOME, or end it and "make up" this one',
            )

    def _refusal(self, error: urllib.error.HTTPError) -> SlipwayError:
        try:
            return SlipwayError.from_dict(json.load(error)["error"])
        except (json.JSONDecodeError, KeyError):
            return ApiUnavailable(f"the API answered {error.code}", next='see "slipway logs"')


def take_to_production(
    asker: ApiClient, approver: ApiClient, version: str, report_progress: ProgressReporter
) -> dict[str, Any]:
    """Ask for production as one person, say yes to the report as the other, and return the promotion that is done.

    What happens before the yes is not told. Raises what stopped the promotion.
    """
    path = f"/promotions/{asker.post('/promotions', {'version': version})['id']}"
    waiting = asker.wait(path, lambda line: None, until=lambda work: work["state"] == "waiting")
    digest = waiting["evaluation"]["report_digest"]
    approver.post("/approvals", {"version": version, "approved": True, "report_digest": digest})
    return asker.wait(path, report_progress)
