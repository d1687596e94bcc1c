"""Waiting with a deadline: for a slot to come up or to empty, and for what is away to come back."""

import time
from collections.abc import Callable
from typing import TypeVar

from pipelines.domain.release import Endpoint, Phase, Slot, SlotState
from pipelines.errors import DatabaseUnavailable, DeployFailed, RegistryUnavailable, SlipwayError
from pipelines.ports import R, never_ending
from pipelines.releases.services import Services

T = TypeVar("T")


def wait_settled(
    services: Services,
    endpoint: Endpoint,
    slot: Slot,
    release_id: str,
    *,
    order: Callable[[], object],
    check: Callable[[], None] = never_ending,
    own_failure: type[SlipwayError] = DeployFailed,
) -> SlotState:
    """Poll a slot until the wanted release settled; raise DeployFailed with the last log lines otherwise.

    What is the release's `own_failure` is raised as that: it crashed, or never became ready.

    A slot that says it was asked for something else, such as that of a new target after a restore, is asked by `order`
    again: once, as it may say so late, and for `order_s` at most.
    """
    deadline, again_at = time.monotonic() + services.timing.converge_s, None
    while True:
        check()
        state = services.target.observe(endpoint, slot)
        late = time.monotonic() > deadline
        if state.wanted_id == release_id:
            if state.phase is Phase.SETTLED:
                return state
            if state.phase is Phase.FAILED or late:
                waited = f"not ready after {services.timing.converge_s:g} s"
                kind = own_failure if state.own_failure else DeployFailed
                raise kind("\n".join([state.failure or waited, *state.last_log]))
        elif again_at is None:
            order()
            again_at = time.monotonic()
        elif late or time.monotonic() > again_at + services.timing.order_s:
            wanted = state.wanted_id or "nothing"
            raise DeployFailed(f"the {slot} slot of {endpoint} was asked for {release_id}, and says for {wanted}")
        time.sleep(services.timing.poll_s)


def wait_empty(services: Services, endpoint: Endpoint, slot: Slot) -> None:
    """Poll a slot until nothing of it is left; raise DeployFailed at the deadline."""
    deadline = time.monotonic() + services.timing.empty_s
    while services.target.observe(endpoint, slot).phase is not Phase.EMPTY:
        if time.monotonic() > deadline:
            raise DeployFailed(f"the {slot} slot of {endpoint} does not empty", next='see "slipway logs"')
        time.sleep(services.timing.poll_s)


def read(services: Services, kind: type[R], id: str) -> R:
    """Return a record between two steps, going on while the database is away: that is no refusal of the work."""
    return keep_trying(services, lambda: services.records.get(kind, id), away=DatabaseUnavailable)


def keep_trying(services: Services, action: Callable[[], T], *, away: type[SlipwayError] = RegistryUnavailable) -> T:
    """Repeat `action` while it raises `away`, to a deadline from its first failure; it must bear repetition."""
    deadline = 0.0
    while True:
        try:
            return action()
        except away:
            deadline = deadline or time.monotonic() + services.timing.registry_s
            if time.monotonic() > deadline:
                raise
            time.sleep(10 * services.timing.poll_s)
