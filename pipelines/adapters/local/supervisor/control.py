"""The supervisor: three slots, a record, and a private socket on which the newest lease's holder is obeyed."""

import asyncio
import json
import logging
import os
from dataclasses import replace
from typing import Any

from pipelines.adapters.local.supervisor.home import Record, SlotRecord, SupervisorHome
from pipelines.adapters.local.supervisor.identity import end_orphan
from pipelines.adapters.local.supervisor.replica import Site
from pipelines.adapters.local.supervisor.slot import Rules, SlotSupervisor
from pipelines.adapters.local.supervisor.sockets import claim_kept, claim_live
from pipelines.adapters.local.supervisor.wire import Command, Deployment, state_as_dict
from pipelines.domain.release import Slot
from pipelines.errors import DeployFailed, LostLease, SlipwayError, UsageError

log = logging.getLogger(__name__)
_LINE_LIMIT_BYTES = 65_536


class Supervisor:
    """Serves one endpoint. A change with a smaller epoch than the highest seen is refused."""

    def __init__(self, home: SupervisorHome, port: int, rules: Rules) -> None:
        self._home = home
        self._port = port
        self._rules = rules
        self._record = Record()
        self._slots: dict[Slot, SlotSupervisor] = {}

    async def run(self, until: asyncio.Event) -> None:
        """Serve until told otherwise, then drain all; raise UsageError or PortTaken if it cannot begin."""
        self._home.lock()
        self._record = self._home.load()
        ended = await asyncio.gather(*(end_orphan(orphan) for orphan in self._record.processes))
        if any(ended):
            log.warning("ended %d replicas that a former supervisor left behind", sum(ended))
        self._record = replace(self._record, pid=os.getpid(), socket=str(self._home.socket_path), processes=[])
        self._open_slots()
        server = await self._listen()
        for supervisor in self._slots.values():
            supervisor.resume()
        log.info("%s: listens on port %d", self._home.endpoint, self._port)
        await until.wait()
        server.close()
        await asyncio.gather(*(supervisor.shut_down() for supervisor in self._slots.values()))
        self._home.socket_path.unlink(missing_ok=True)

    def _open_slots(self) -> None:
        for slot in Slot:
            if slot is Slot.LIVE:
                shared = claim_live(self._home.endpoint.environment, self._port)
            else:
                shared = claim_kept(self._record.ports.get(slot, 0))
            self._slots[slot] = SlotSupervisor(
                Site(self._home, slot, shared, self._try_save),
                self._rules,
                self._record.slots.get(slot, SlotRecord()),
            )

    def _try_save(self) -> None:
        try:
            self._save()
        except OSError as error:
            # What is served must survive a full disk; commands are refused meanwhile.
            log.error("the record cannot be written: %s", error)

    def _save(self) -> None:
        self._record.ports = {slot: supervisor.port for slot, supervisor in self._slots.items()}
        self._record.slots = {slot: supervisor.record for slot, supervisor in self._slots.items()}
        self._record.processes = [process for supervisor in self._slots.values() for process in supervisor.processes]
        self._home.save(self._record)

    async def _listen(self) -> asyncio.Server:
        before = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._converse, self._home.socket_path, limit=_LINE_LIMIT_BYTES)
        finally:
            os.umask(before)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._reply(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as error:
            # ValueError: a line beyond the limit, after which nothing on this connection makes sense.
            log.warning("a conversation ended: %s", error)
        finally:
            writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": await self._obey(json.loads(line))}
        except SlipwayError as error:
            return {"error": error.as_dict()}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": UsageError(f"not a command of this supervisor: {error!r}").as_dict()}

    async def _obey(self, body: dict[str, Any]) -> dict[str, Any] | None:
        command = Command(body["command"])
        if command is Command.OBSERVE:
            return state_as_dict(await self._slots[Slot(body["slot"])].observe())
        wanted = Deployment.from_dict(body["deployment"]) if command is Command.START else None
        if wanted and wanted.release.endpoint != self._home.endpoint:
            raise UsageError(f"release {wanted.release.id} is for {wanted.release.endpoint}")
        self._fence(int(body["epoch"]))
        if command is not Command.FENCE:
            log.info("%s %s: %s", command, body["slot"], wanted.release.id if wanted else "no release")
            self._slots[Slot(body["slot"])].start(wanted)
        return None

    def _fence(self, epoch: int) -> None:
        if epoch < self._record.epoch:
            raise LostLease(
                f"lost lease, epoch {epoch} < {self._record.epoch}",
                next="another executor has taken over; this one stops",
            )
        before, self._record.epoch = self._record.epoch, epoch
        try:
            self._save()
        except OSError as error:
            # Whoever reads the record must never find a smaller epoch than the one that is obeyed.
            self._record.epoch = before
            raise DeployFailed(
                f"the supervisor cannot record a change: {error}", next="make room on the disk, then try again"
            ) from error
