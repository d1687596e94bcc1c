"""Tells every process of an installation that events were committed, so that nobody polls for them.

A signal says "look", never what there is to see. It may be lost, with a connection or with a process that is just
starting: who waits looks by itself after a while, so a lost one costs time and nothing else.
"""

import contextlib
import errno
import os
import select
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

_CHANNEL = "slipway_events"
_RETRY_S = 1.0
_CONNECT_S = 5
# Often enough that no proxy between takes the connection for dead.
_KEEPALIVE_S = 60


class FifoSignals:
    """Signals of a database file: each listener has a FIFO in the directory beside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def announce(self, connection: sa.Connection) -> None:
        """Say nothing yet: a FIFO knows no transaction."""

    def ring(self) -> None:
        """Wake every listener after the commit, and remove what a killed one has left.

        What keeps a signal from being sent never undoes what is committed: who waits looks by itself after a while.
        """
        with contextlib.suppress(OSError):
            for fifo in self._directory.glob("*.fifo"):
                _ring_one(fifo)

    def listen(self) -> "FifoListener":
        """Return a listener that hears every signal from now on."""
        return FifoListener(self._directory)


class FifoListener:
    """Fills ports.Listener with a FIFO of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / f"{uuid.uuid4().hex}.fifo"
        unread = self._path.with_suffix(".new")
        os.mkfifo(unread, 0o600)
        # Open for both: with no writer it would be at its end for ever.
        self._end = os.open(unread, os.O_RDWR | os.O_NONBLOCK)
        self._lock, self._open = threading.Lock(), True
        unread.rename(self._path)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a signal or `wake`; return whether one came."""
        return bool(_ready([self._end], timeout_s)) and _emptied(self._end)

    def wake(self) -> None:
        """End a wait of this process, from any thread; of a closed listener, nothing."""
        with self._lock:
            if self._open:
                _write_byte(self._end)

    def close(self) -> None:
        """Stop listening."""
        self._path.unlink(missing_ok=True)
        with self._lock:
            # Whatever this process opens next may get the number of this file.
            self._open = False
            os.close(self._end)


class PostgresSignals:
    """Signals of a PostgreSQL database: NOTIFY, which the server sends when the transaction commits."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url

    def announce(self, connection: sa.Connection) -> None:
        """Have the server wake every listener if the transaction commits."""
        connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")

    def ring(self) -> None:
        """Do nothing: the server has done it."""

    def listen(self) -> "PostgresListener":
        """Return a listener that hears every signal from now on."""
        return PostgresListener(self._url)


class PostgresListener:
    """Fills ports.Listener with a connection of its own, made anew when it breaks."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._lock, self._open = threading.Lock(), True
        self._connection: Any = None
        self._attempt(self._connect)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a signal or `wake`; return whether one came, or may have been missed while the server was away."""
        if self._connection is None and self._attempt(self._connect):
            return True
        if self._connection is None:
            return bool(_ready([self._wake_read], min(_RETRY_S, timeout_s))) and _emptied(self._wake_read)
        heard = _ready([self._connection.fileno(), self._wake_read], timeout_s)
        if self._wake_read in heard:
            _emptied(self._wake_read)
        if self._connection.fileno() in heard:
            self._attempt(self._read)
        return bool(heard)

    def wake(self) -> None:
        """End a wait of this process, from any thread; of a closed listener, nothing."""
        with self._lock:
            if self._open:
                _write_byte(self._wake_write)

    def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            self._connection.close()
        with self._lock:
            self._open = False
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _connect(self) -> None:
        import psycopg

        self._connection = psycopg.connect(
            self._url.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            application_name="slipway",
            connect_timeout=_CONNECT_S,
            keepalives_idle=_KEEPALIVE_S,
        )
        self._connection.execute(f"LISTEN {_CHANNEL}")

    def _read(self) -> None:
        for _ in self._connection.notifies(timeout=0):
            pass

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Do what needs the server; without it, forget the connection."""
        import psycopg

        try:
            action()
        except psycopg.Error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return False
        return True


def _ring_one(fifo: Path) -> None:
    try:
        end = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            # Nobody reads it any more.
            fifo.unlink(missing_ok=True)
        return
    _write_byte(end)
    os.close(end)


def _ready(ends: list[int], timeout_s: float) -> list[int]:
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    return [end for end, _ in poll.poll(timeout_s * 1000)]


def _emptied(end: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        os.read(end, select.PIPE_BUF)
    return True


def _write_byte(end: int) -> None:
    # Full means that whoever reads it is told already.
    with contextlib.suppress(BlockingIOError):
        os.write(end, b"\0")
