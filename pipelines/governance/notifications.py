"""Notifications: which events people are told of, and in what words; where they go is a channel that wiring names."""

from collections.abc import Callable, Mapping

from pipelines.domain.events import Event, EventKind
from pipelines.domain.texts import printable
from pipelines.governance.subscribers import Subscriber

# Takes one line; what it raises has the same line sent again later.
Channel = Callable[[str], None]

_WORDS: Mapping[EventKind, str] = {
    EventKind.APPROVAL_ASKED: "{subject} waits for people to decide on version {version}, until {expires_at}",
    EventKind.PROMOTION_APPROVED: "{subject} of version {version} is approved",
    EventKind.EVALUATION_STOPPED: "{subject} was stopped: {error[message]}",
    EventKind.PROMOTION_STOPPED: "{subject} was stopped: {error[message]}",
    EventKind.ROLLBACK_STOPPED: "{subject} was stopped: {error[message]}",
    EventKind.VERSION_RELEASED: "{environment} serves version {version}",
    EventKind.RELEASE_FAILED: "version {version} failed in {environment}: {why}",
    EventKind.POLICY_CHANGED: "policy {digest} is in force",
    EventKind.DISAGREEMENT_APPEARED: "{subject}: {drift}",
    EventKind.LIVE_DRIFT_APPEARED: "what {subject} is asked is not like what version {version} was trained on: {why}",
    EventKind.LIVE_DRIFT_ENDED: "what {subject} is asked is like what version {version} was trained on again",
}


def notifying(send: Channel) -> Subscriber:
    """Return the subscriber that sends what people are told: one line an event, of printable characters."""

    def handle(event: Event) -> None:
        told = _WORDS[event.kind].format(subject=event.subject, **event.detail)
        send(printable(told.partition("\n")[0]))

    return Subscriber(handle, tuple(_WORDS))
