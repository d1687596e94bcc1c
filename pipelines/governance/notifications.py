"""Notifications: which events people are told of, and in what words; where they go is a channel that wiring names."""

from collections.abc import Callable, Mapping

from pipelines.domain.events import Event, EventKind
from pipelines.governance.subscribers import Handler

# Takes one line; what it raises has the same line sent again later.
Channel = Callable[[str], None]

_WORDS: Mapping[EventKind, str] = {
    EventKind.APPROVAL_ASKED: "{subject} waits for people to decide on version {version}, until {expires_at}",
    EventKind.DECISION_MADE: "{person} decided on {subject}",
    EventKind.EVALUATION_STOPPED: "{subject} was stopped: {error[message]}",
    EventKind.PROMOTION_STOPPED: "{subject} was stopped: {error[message]}",
    EventKind.ROLLBACK_STOPPED: "{subject} was stopped: {error[message]}",
    EventKind.VERSION_RELEASED: "{environment} serves version {version}",
    EventKind.RELEASE_FAILED: "version {version} failed in {environment}: {why}",
    EventKind.POLICY_CHANGED: "policy {digest} is in force",
    EventKind.DISAGREEMENT_APPEARED: "{subject}: {drift}",
}


def notifying(send: Channel) -> Handler:
    """Return a subscriber's handler that sends what people are told, one line an event, and passes the rest over."""

    def handle(event: Event) -> None:
        if event.kind in _WORDS:
            send(_WORDS[event.kind].format(subject=event.subject, **event.detail))

    return handle
