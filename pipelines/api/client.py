"""Talks to the API for the command line: one request a call, and waiting with visible progress.

Uses urllib because every verb starts with it, and importing an HTTP library takes longer than the verb.
"""

import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pipelines.errors import ApiUnavailable, SlipwayError, UsageError
from pipelines.settings.installation import HEADER, installation_id
from pipelines.settings.settings import Settings

POLL_S = 0.05
# An executor shows itself every second; one that did not for so long is dead or frozen.
SILENT_S = 10.0


def executor_silence(status: dict[str, Any]) -> str:
    """Say what the API's status tells of an executor that does not show itself, or "" when it does."""
    seen_at = status["executor"]["heartbeat_at"]
    if seen_at and (datetime.now(UTC) - datetime.fromisoformat(seen_at)).total_seconds() < SILENT_S:
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
    """Calls the API of one installation as one person; every call ends within `timeout_s`."""

    def __init__(self, settings: Settings, token: str, timeout_s: float = 30.0) -> None:
        self._url = settings.api_url
        self._token = token
        self._timeout_s = timeout_s
        self._opener = direct_opener(settings)
        self._home = settings.home
        self._installation = installation_id(settings)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET a path below /api/v1; raise the refusal that the API answered with."""
        return self._send(f"{path}?{urllib.parse.urlencode(query)}" if query else path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON to a path below /api/v1; raise the refusal that the API answered with."""
        return self._send(path, json.dumps(body).encode())

    def wait(
        self,
        path: str,
        report_progress: Callable[[str], None],
        *,
        until: Callable[[dict[str, Any]], bool] | None = None,
    ) -> dict[str, Any]:
        """Poll work until it has ended, or `until` holds, telling each new step; raise its error.

        Where nothing happens because nobody carries it out, that is told as well.
        """
        told, asked_s, warned = 0, time.monotonic(), ""
        while True:
            work = self.get(path)
            for line in work["steps"][told:]:
                report_progress(f"{line['step']}: {line['message']}" if line["message"] else line["step"])
            told = len(work["steps"])
            if time.monotonic() - asked_s > SILENT_S:
                asked_s, silence = time.monotonic(), executor_silence(self.get("/status"))
                if silence and not warned:
                    report_progress(silence)
                warned = silence
            if work["state"] == "stopped":
                raise SlipwayError.from_dict(work["error"])
            if work["state"] == "done" or (until and until(work)):
                return work
            time.sleep(POLL_S)

    def ask(self, path: str, body: dict[str, Any], report_progress: Callable[[str], None]) -> dict[str, Any]:
        """POST what makes work at `path`, and wait for its end as `wait` does."""
        return self.wait(f"{path}/{self.post(path, body)['id']}", report_progress)

    def _send(self, path: str, content: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._url}/api/v1{path}",
            data=content,
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
                **({HEADER: self._installation} if self._installation else {}),
            },
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                self._check_installation(response.headers.get(HEADER))
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                self._check_installation(error.headers.get(HEADER))
                raise self._refusal(error) from error
        except (OSError, json.JSONDecodeError) as error:
            raise ApiUnavailable(
                f"the API at {self._url} does not answer: {error}",
                next='run "make up"; what was asked for before goes on by itself',
            ) from error
        return answer

    def _check_installation(self, told: str | None) -> None:
        """Raise UsageError when the API says that it is another installation's; an earlier one says nothing."""
        if told and self._installation and told != self._installation:
            raise UsageError(
                f"the API at {self._url} is of installation {told}, and {self._home} has {self._installation}",
                next='name the home of that installation by SLIPWAY_HOME, or end it and "make up" this one',
            )

    def _refusal(self, error: urllib.error.HTTPError) -> SlipwayError:
        try:
            return SlipwayError.from_dict(json.load(error)["error"])
        except (json.JSONDecodeError, KeyError):
            return ApiUnavailable(f"the API answered {error.code}", next='see "slipway logs"')


def take_to_production(
    asker: ApiClient, approver: ApiClient, version: str, report_progress: Callable[[str], None]
) -> dict[str, Any]:
    """Ask for production as one person, say yes to the report as the other, and return the promotion that is done.

    What happens before the yes is not told. Raises what stopped the promotion.
    """
    path = f"/promotions/{asker.post('/promotions', {'version': version})['id']}"
    waiting = asker.wait(path, lambda line: None, until=lambda work: work["state"] == "waiting")
    digest = waiting["evaluation"]["report_digest"]
    approver.post("/approvals", {"version": version, "approved": True, "report_digest": digest})
    return asker.wait(path, report_progress)
