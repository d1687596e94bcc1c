"""A turn: what a generator sends to one host before it goes on to the next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """A time in which one host is loaded, its warm-up first; an infinite `duration_s` lasts until Locust stops it.

    Turns of the same `number` are sent the same requests at the same offsets.
    """

    number: int
    host: str
    warmup_s: float
    duration_s: float
