"""Find the longest time without any reply while requests were due: a freeze is one burst to the quantiles."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.samples import Look

# So many who wait at once have met a freeze, whoever might have come after them.
MANY_WAITING = 10


@dataclass(frozen=True)
class Stall:
    """A silence of `length_s`, `after_s` into its look; `send_lag_p99_ms` is the generator's own in it."""

    length_s: float
    after_s: float
    look: int
    send_lag_p99_ms: float


def longest_stall(looks: list[Look]) -> Stall:
    """Return the longest silence of all looks (of length 0 where nothing was due)."""
    stalls = [_longest_in(look, number) for number, look in enumerate(looks, start=1)]
    return max(stalls, key=lambda stall: stall.length_s)


def _longest_in(look: Look, number: int) -> Stall:
    if not len(look.intended_s):
        return Stall(0.0, 0.0, number, 0.0)
    heard = look.answered & np.isfinite(look.latency_ms)
    due_s = look.intended_s[heard]
    reply_s = due_s + look.latency_ms[heard] / 1000
    order = np.argsort(reply_s, kind="stable")
    due_s, reply_s = due_s[order], reply_s[order]
    begin_s = look.intended_s.min()
    unheard_s = np.sort(look.intended_s[~heard])
    last_s = max(reply_s[-1] if len(reply_s) else begin_s, unheard_s[-1] if len(unheard_s) else begin_s)
    silence_from = np.concatenate(([begin_s], reply_s))
    silence_until = np.concatenate((reply_s, [last_s]))
    # A silence counts from the first request due in it, be that answered later or never.
    awaited_s = np.append(np.minimum.accumulate(due_s[::-1])[::-1], np.inf)
    next_unheard = np.searchsorted(unheard_s, silence_from)
    lost_s = np.append(unheard_s, np.inf)[next_unheard]
    due_from = np.maximum(silence_from, np.minimum(awaited_s, lost_s))
    # After the last arrival there is nobody whose reply could end a silence: what a few slow requests make of it ends
    # with the look.
    late = np.flatnonzero(silence_until > look.window.measured_until_s)
    few = late[_due_between(look, due_from[late], silence_until[late]) < MANY_WAITING]
    silence_until[few] = look.window.measured_until_s
    length_s = np.where(np.isfinite(due_from), silence_until - due_from, 0.0)
    worst = int(length_s.argmax())
    inside = (look.intended_s >= due_from[worst]) & (look.intended_s <= silence_until[worst])
    lag_ms = (look.sent_s[inside] - look.intended_s[inside]) * 1000
    return Stall(
        length_s=max(0.0, float(length_s[worst])),
        after_s=float(due_from[worst] - look.window.measured_from_s),
        look=number,
        send_lag_p99_ms=float(np.quantile(lag_ms, 0.99)) if len(lag_ms) else 0.0,
    )


def _due_between(look: Look, from_s: NDArray[np.float64], until_s: NDArray[np.float64]) -> NDArray[np.intp]:
    """Count the requests that fell due in each of the silences."""
    due_s = np.sort(look.intended_s)
    return np.searchsorted(due_s, until_s, side="right") - np.searchsorted(due_s, from_s, side="left")
