"""Connections that are opened and not used: idle, with half a head, with half a body."""

import contextlib
import resource
import socket
import time

from bench.faults.grounds import Grounds
from bench.faults.scenario import Scenario, expect

SOCKETS = 1100
HELD_S = 20.0
CUT_WITHIN_S = 90.0
_BEGINNINGS = (
    b"",
    b"POST /predict HTTP/1.1\r\nHost: production\r\nContent-",
    b"POST /predict HTTP/1.1\r\nHost: production\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{",
)


def unused(grounds: Grounds) -> str:
    """Open them and send nothing more: other clients are served meanwhile, and these are cut."""
    _raise_own_limit()
    port = grounds.slipway.settings.production_port
    with contextlib.ExitStack() as held:
        sockets, refused = [], 0
        for number in range(SOCKETS):
            try:
                opened = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                opened.sendall(_BEGINNINGS[number % len(_BEGINNINGS)])
                sockets.append(opened)
            except OSError:
                refused += 1
        begun = time.monotonic()
        time.sleep(HELD_S)
        grounds.serving()
        left = sockets
        while left and time.monotonic() - begun < CUT_WITHIN_S:
            time.sleep(1.0)
            left = [each for each in left if not _is_cut(each)]
        expect(not left, f"{len(left)} of {SOCKETS} unused connections are still open after {CUT_WITHIN_S:g} s")
        return f"{SOCKETS} opened, {refused} refused, all cut after {time.monotonic() - begun:.0f} s"


def _is_cut(opened: socket.socket) -> bool:
    opened.setblocking(False)
    try:
        while opened.recv(65536):
            continue
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _raise_own_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * SOCKETS)), hard))


SCENARIOS = (Scenario("1,100 unused connections", unused),)
