"""Keeps releases out while the installation itself is changed, by maintenance that the API is asked for.

Without an API that answers, the executor is asked from inside of its container: while it works, the installation is
left alone. Without an executor nobody can release anything; then it goes on, and says so.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipelines.adapters.containers.secret_store import TOKENS, SecretStore
from pipelines.errors import (
    DeployFailed,
    LeaseHeld,
    NotAllowed,
    OtherInstallation,
    OtherModel,
    Undecided,
    UnknownModel,
    UsageError,
)
from pipelines.settings.tokens import OPERATOR, read_tokens

# So soon an API that is away is asked again.
_RETRY_S = 0.3
_NOT_OURS = (OtherModel, UnknownModel, OtherInstallation)

ProgressReporter = Callable[[str], None]
# Environment of a model, as it is named in what is told -> the digests that its replicas tell.
Told = Mapping[str, set[str]]


@dataclass(frozen=True)
class HoldPatience:
    """How long to wait for other work to end, for a look, for the same to serve again, and to give back.

    The last two have to bear an executor that was replaced meanwhile.
    """

    turn_s: float = 600.0
    look_s: float = 20.0
    proof_s: float = 120.0
    give_back_s: float = 60.0


class Api(Protocol):
    """The installation's API, asked as one person of one model; each raises the refusal that it answers with."""

    def get(self, path: str) -> dict[str, Any]:
        """GET a path below /api/v1."""

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON to a path below /api/v1."""

    def follow(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the state at a path each time that it is told, with the executor's last sign as `executor`."""


class OpenApi(Protocol):
    """Opens the installation's API with a token; what is asked is asked of the default model if none is named."""

    def __call__(self, token: str, *, model: str = "") -> Api:
        """Open it."""


class MaintenanceHold:
    """The leases of one installation, asked for by an operator who holds its home's lock.

    `api` opens the API with a token; `silence` reads off the API's status how an executor is silent, "" when it is
    not; `work` tells what the executor works on where the API can't be asked.
    """

    def __init__(
        self,
        api: OpenApi,
        silence: Callable[[dict[str, Any]], str],
        home: Path,
        tokens_file: Path,
        *,
        work: Callable[[], Sequence[str]],
        patience: HoldPatience = HoldPatience(),
    ) -> None:
        self._api = api
        self._silence = silence
        self._patience = patience
        self._work = work
        self._tokens_file = tokens_file
        self._secrets = SecretStore(home / "secrets.json", tokens_file)

    @contextmanager
    def unchanged(self, verb: str, report_progress: ProgressReporter) -> Iterator[None]:
        """Hold the leases for a block, and have every replica asked that it serves the same after it as before.

        Raises LeaseHeld when other work does not end in time or can't be waited for, DeployFailed when a digest is
        another one afterwards, Undecided when nobody looks.
        """
        with self.held(verb, report_progress) as holding:
            before = self._look_before(report_progress) if holding else {}
            yield
            if any(before.values()):
                self._prove(before)
                report_progress("every replica serves the digest that it served before")

    def await_executor(self) -> None:
        """Wait until an executor shows itself, and again after that; raise Undecided when none does in time."""
        silence, seen = "", set[str]()
        for status, trouble in self._statuses(self._patience.proof_s):
            silence = trouble or self._silence(status)
            # What was there before may be the last sign of one that is gone.
            seen |= set() if silence else {status["executor"]["heartbeat_at"]}
            if len(seen) > 1:
                return
        reason = silence or "the executor has not shown itself again"
        raise Undecided(reason, next='see "slipway logs", then "make up" again')

    @contextmanager
    def held(self, verb: str, report_progress: ProgressReporter) -> Iterator[bool]:
        """Hold the leases for a block, if there is somebody to keep out; say whether they are held."""
        holding = False
        try:
            holding = self._take(verb, report_progress)
            yield holding
        finally:
            # After `down` there is nobody left to ask.
            self._give_back(report_progress, patient=holding and verb != "down")

    def _take(self, verb: str, report_progress: ProgressReporter) -> bool:
        try:
            id = self._ask("/maintenance", {"verb": verb})["id"]
            return self._await(f"/maintenance/{id}", verb, report_progress)
        except _NOT_OURS:
            raise
        except (Undecided, NotAllowed, UsageError) as error:
            # A UsageError is that of an API which does not know the request yet: `up` is about to replace it.
            self._check_idle(verb, error.message)
            report_progress(f"nothing is held, as nobody can be asked: {error.message}")
            return False

    def _check_idle(self, verb: str, reason: str) -> None:
        """Raise LeaseHeld while the executor works: it goes on without an API, with what was approved before."""
        try:
            work = self._work()
        except (Undecided, UsageError):
            # There is none, or it is ailing itself: that is what wants mending.
            return
        if work:
            raise LeaseHeld(
                f"{reason}; and the executor goes on with {', '.join(work)}",
                next=f'wait for it to end, or end the executor\'s service, then "make {verb}" again',
            )

    def _await(self, path: str, verb: str, report_progress: ProgressReporter) -> bool:
        """Return whether the leases are held at last; without an executor they need not be."""
        deadline, told = time.monotonic() + self._patience.turn_s, ""
        silence = self._silence(self._ask("/status"))
        while not silence:
            for change in self._follow(path):
                if change["state"] == "running":
                    return True
                if change["state"] != "requested":
                    raise LeaseHeld(f"somebody ended {change['id']}", next=f'"make {verb}" again')
                waiting = change["steps"][-1]["message"] if change["steps"] else ""
                if waiting != told:
                    report_progress(f"waiting {waiting}")
                told = waiting
                if time.monotonic() > deadline:
                    raise LeaseHeld(
                        f"waited {self._patience.turn_s:g} s {waiting}".rstrip(),
                        next=f'see "slipway status"; when it has ended, "make {verb}" again',
                    )
                silence = self._silence(change) if "executor" in change else ""
                if silence:
                    break
            else:
                # The API ended it, to come back as the next process.
                time.sleep(_RETRY_S)
        # An API of before leaves its age to the clocks of two machines; the executor itself knows better.
        self._check_idle(verb, silence)
        report_progress(f"nothing is held: {silence}")
        return False

    def _look_before(self, report_progress: ProgressReporter) -> Told:
        """Return what the replicas tell; without a look there is no proof, but what hinders it may want mending."""
        try:
            return self._look(self._patience.look_s)
        except Undecided as error:
            report_progress(f"what serves will not be compared: {error.message}")
            return {}

    def _prove(self, before: Told) -> None:
        deadline = time.monotonic() + self._patience.proof_s
        while True:
            after = self._look(deadline + self._patience.look_s - time.monotonic())
            changed = [place for place, digests in before.items() if digests and after.get(place) != digests]
            if not changed:
                return
            if time.monotonic() > deadline:
                told = "; ".join(
                    f"{place} served {_named(before[place])}, now {_named(after[place])}" for place in changed
                )
                raise DeployFailed(told, next='"slipway doctor"')

    def _look(self, within_s: float) -> Told:
        """Return what the replicas of every model tell the executor; raise Undecided where it does not look in time.

        Each model is given that time: the executor looks at one after the other.
        """
        told, models = self._look_at("", within_s)
        for model in models[1:]:
            told |= self._look_at(model, within_s)[0]
        return told

    def _look_at(self, model: str, within_s: float) -> tuple[dict[str, set[str]], list[str]]:
        """Return what the replicas of a model tell in a look that began after this call, and all models there are."""
        ended: dict[str, set[str]] = {}
        trouble = ""
        for status, silent in self._statuses(within_s, model=model):
            trouble = silent
            seen = status.get("observed", {})
            for place, look in seen.items():
                ended.setdefault(place, set()).add(look["at"])
            # The first was over before, and the second may have begun before.
            if seen and all(len(times) > 2 for times in ended.values()):
                told = {f"{model} in {place}" if model else place: _digests(look) for place, look in seen.items()}
                # An API of before tells of the one model that it knows.
                return told, status.get("models", [])
        raise Undecided(trouble or "the executor looks at no replica", next='see "slipway logs"')

    def _give_back(self, report_progress: ProgressReporter, *, patient: bool) -> None:
        """End every maintenance, one of a predecessor that was killed as well, and wait until it is so."""
        trouble, asked = "", set[str]()
        for status, silent in self._statuses(self._patience.give_back_s):
            left = {work["id"] for work in status.get("unfinished", []) if "verb" in work}
            failed = silent or self._end(left - asked)
            if not (failed or left) or (failed and not patient):
                return
            asked |= set() if failed else left
            trouble = f"{', '.join(sorted(left))} still holds the environments: the executor gives them back"
            if failed:
                trouble = f'the environments may still be held: {failed}; "make up" again'
        report_progress(trouble)

    def _end(self, changes: set[str]) -> str:
        """Ask the leases of maintenance back; return why that could not be asked, or ""."""
        try:
            for id in changes:
                self._ask(f"/maintenance/{id}/end", {})
        except (Undecided, NotAllowed) as error:
            return error.message
        return ""

    def _statuses(self, within_s: float, *, model: str = "") -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the status each time that it is told, or {} and what is in the way of it, for about `within_s`."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                for status in self._follow("/status", model=model):
                    yield status, ""
                    if time.monotonic() > deadline:
                        return
            except _NOT_OURS:
                raise
            except (Undecided, NotAllowed, UsageError) as error:
                # A UsageError is that of an API which tells no such stream yet: it is about to be replaced.
                yield {}, error.message
            if time.monotonic() > deadline:
                return
            time.sleep(_RETRY_S)

    def _follow(self, path: str, *, model: str = "") -> Iterator[dict[str, Any]]:
        """Follow a stream, with the first of the tokens that the API takes."""
        *first, last = self._tokens()
        for token in first:
            with suppress(NotAllowed):
                yield from self._api(token, model=model).follow(path)
                return
        yield from self._api(last, model=model).follow(path)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """POST a body or GET, with the token that holds now or, before the API is told of that, with a former one."""
        *first, last = self._tokens()
        for token in first:
            try:
                return self._send(token, path, body)
            except NotAllowed:
                continue
        return self._send(last, path, body)

    def _send(self, token: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        api = self._api(token)
        return api.get(path) if body is None else api.post(path, body)

    def _tokens(self) -> list[str]:
        """Return the operator's tokens, the present one first; those that a killed rotation left follow."""
        file = self._tokens_file
        present = read_tokens(file).get(OPERATOR, "") if file.exists() else ""
        return [present, *(json.loads(text).get(OPERATOR, "") for text in self._secrets.former(TOKENS))]


def _digests(look: dict[str, Any]) -> set[str]:
    return {replica["digest"] for replica in look["replicas"] if replica["digest"]}


def _named(digests: set[str]) -> str:
    return ", ".join(sorted(digests)) or "nothing"
