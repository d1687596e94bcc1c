"""The supervisor: three slots, a record, and a private socket on which the newest lease's holder is obeyed."""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pipelines.adapters.local.supervisor.handover import asked_for_sockets, find_sockets, give_sockets
from pipelines.adapters.local.supervisor.home import ProcessRecord, Record, SlotRecord, SupervisorHome
from pipelines.adapters.local.supervisor.identity import end_orphan, marked
from pipelines.adapters.local.supervisor.replica import Site, look_at
from pipelines.adapters.local.supervisor.slot import Rules, SlotSupervisor
from pipelines.adapters.local.supervisor.sockets import SlotSocket, claim_kept, claim_live
from pipelines.adapters.local.supervisor.wire import WIRE_VERSION, Command, Deployment, state_as_dict
from pipelines.domain.release import Phase, Slot, SlotState
from pipelines.errors import DeployFailed, LostLease, SlipwayError, UsageError

log = logging.getLogger(__name__)
_LINE_LIMIT_BYTES = 65_536
# A supervisor that was told to leave has ended by then.
_LEAVES_S = 10.0
_AGAIN_S = 5.0
_LOOK_S = 60.0


class Supervisor:
    """Serves one endpoint. A change with a smaller epoch than the highest seen is refused.

    With `replaces` it has one that runs here pass its sockets on and end.
    """

    def __init__(self, home: SupervisorHome, port: int, rules: Rules, *, replaces: bool = False) -> None:
        self._home = home
        self._port = port
        self._rules = rules
        self._replaces = replaces
        self._record = Record()
        self._slots: dict[Slot, SlotSupervisor] = {}
        self._unsaved = False

    async def run(self, until: asyncio.Event) -> None:
        """Serve until told otherwise, then drain all; raise UsageError or PortTaken if it cannot begin."""
        sockets = self._take_place()
        # What holds a port that was not passed on has to leave it first.
        await self._end_former(lambda slot: self._port_of(slot) not in sockets)
        self._open_slots(sockets)
        for supervisor in self._slots.values():
            supervisor.resume()
        log.info("%s: listens on port %d", self._home.endpoint, self._port)
        tasks = [
            asyncio.create_task(self._obey_callers()),
            asyncio.create_task(self._save_again()),
            asyncio.create_task(self._end_unrecorded()),
            *(asyncio.create_task(self._succeed(slot)) for slot in Slot),
        ]
        await until.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(self._end_former(), *(supervisor.shut_down() for supervisor in self._slots.values()))
        self._home.socket_path.unlink(missing_ok=True)

    def _take_place(self) -> dict[int, socket.socket]:
        """Become the supervisor here, and return by port the sockets on which replicas of a former one serve."""
        with contextlib.ExitStack() as conversation:
            former = asked_for_sockets(self._home.load().socket)
            asked = conversation.enter_context(former) if self._replaces else []
            self._home.lock(within_s=_LEAVES_S if asked else 0.0)
        left = self._home.load()
        self._record = replace(
            left,
            wire=WIRE_VERSION,
            pid=os.getpid(),
            socket=str(self._home.socket_path),
            processes=[],
            former=[*left.former, *left.processes],
        )
        # One that was killed between a spawn and its record, or could not write it, named none of these.
        self._record.former += self._unrecorded(marked(self._home.record_path))
        return {int(found.getsockname()[1]): found for found in asked or find_sockets(self._record.former)}

    async def _succeed(self, slot: Slot) -> None:
        """End the replicas of the supervisor before when those of this one serve, whatever goes wrong on the way."""
        while self._former_in(slot):
            try:
                await self._slots[slot].until_served()
                await self._end_former(lambda of: of is slot)
            except Exception:
                log.exception("%s: what a former supervisor left goes on for a moment", self._home.endpoint)
                await asyncio.sleep(_AGAIN_S)

    async def _end_former(self, of: Callable[[Slot], bool] = lambda slot: True) -> None:
        leaving = [orphan for orphan in self._record.former if of(orphan.slot)]
        ended = await asyncio.gather(*(end_orphan(orphan) for orphan in leaving))
        if any(ended):
            log.warning("ended %d replicas that a former supervisor left behind", sum(ended))
        self._record.former = [orphan for orphan in self._record.former if orphan not in leaving]
        if self._slots:
            self._try_save()

    def _unrecorded(self, replicas: list[ProcessRecord]) -> list[ProcessRecord]:
        own = [process for supervisor in self._slots.values() for process in supervisor.processes]
        known = {process.pid for process in (*self._record.former, *own)}
        return [replica for replica in replicas if replica.pid not in known]

    async def _end_unrecorded(self) -> None:
        """End now and then what serves on this one's sockets and is neither its own nor waits to be succeeded."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                # Looked for beside what is served, and compared at once: what was spawned meanwhile is known by then.
                found = self._unrecorded(await asyncio.to_thread(marked, self._home.record_path))
                for replica in found:
                    log.warning("%s: ends a %s that nobody knows", self._home.endpoint, replica.name)
                await asyncio.gather(*map(end_orphan, found))
            except Exception:
                log.exception("%s: what nobody knows could not be ended", self._home.endpoint)

    async def _save_again(self) -> None:
        """Write the record as soon as the disk allows it, though nothing changes any more."""
        while True:
            await asyncio.sleep(_AGAIN_S)
            if self._unsaved:
                self._try_save()

    def _former_in(self, slot: Slot) -> list[ProcessRecord]:
        return [orphan for orphan in self._record.former if orphan.slot is slot]

    async def _observe(self, slot: Slot) -> SlotState:
        """Ask all that answers on a slot's port: it has not settled while replicas of a former supervisor do."""
        looks = asyncio.gather(*map(look_at, self._former_in(slot)))
        own, former = await asyncio.gather(self._slots[slot].observe(), looks)
        left = tuple(replica for replica in former if replica)
        if not left:
            return own
        phase = own.phase if own.phase is Phase.FAILED else Phase.STARTING
        return replace(own, phase=phase, replicas=(*own.replicas, *left))

    def _port_of(self, slot: Slot) -> int:
        return self._port if slot is Slot.LIVE else self._record.ports.get(slot, 0)

    def _open_slots(self, sockets: dict[int, socket.socket]) -> None:
        for slot in Slot:
            port = self._port_of(slot)
            if port in sockets:
                shared = SlotSocket(sockets.pop(port))
            elif slot is Slot.LIVE:
                shared = claim_live(self._home.endpoint.environment, port)
            else:
                shared = claim_kept(port)
            self._slots[slot] = SlotSupervisor(
                Site(self._home, slot, shared, self._try_save),
                self._rules,
                self._record.slots.get(slot, SlotRecord()),
            )
        for left in sockets.values():
            left.close()

    def _try_save(self) -> None:
        try:
            self._save()
        except OSError as error:
            # What is served must survive a full disk; commands are refused meanwhile.
            self._unsaved = True
            log.error("the record cannot be written: %s", error)

    def _save(self) -> None:
        self._record.ports = {slot: supervisor.port for slot, supervisor in self._slots.items()}
        self._record.slots = {slot: supervisor.record for slot, supervisor in self._slots.items()}
        self._record.processes = [process for supervisor in self._slots.values() for process in supervisor.processes]
        self._home.save(self._record)
        self._unsaved = False

    async def _obey_callers(self) -> None:
        """Listen for callers, as soon as the disk allows it: what is served does not wait for that."""
        while True:
            try:
                server = await self._listen()
                break
            except OSError as error:
                log.error("nobody can ask for anything at %s: %s", self._home.socket_path, error)
                await asyncio.sleep(_AGAIN_S)
        try:
            await server.serve_forever()
        finally:
            server.close()

    async def _listen(self) -> asyncio.Server:
        before = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._converse, self._home.socket_path, limit=_LINE_LIMIT_BYTES)
        finally:
            os.umask(before)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = False
        try:
            while line := await reader.readline():
                body = _body(line)
                if body.get("command") == Command.HAND_OVER:
                    passed = self._pass_on(writer)
                elif passed and body.get("command") == Command.LEAVE:
                    self._leave(writer)
                else:
                    writer.write(json.dumps(await self._reply(body)).encode() + b"\n")
                    await writer.drain()
        except (ConnectionError, ValueError, DeployFailed) as error:
            # ValueError: a line beyond the limit, after which nothing on this connection makes sense.
            log.warning("a conversation ended: %s", error)
        finally:
            writer.close()

    def _pass_on(self, writer: asyncio.StreamWriter) -> bool:
        """Answer a successor with the sockets, and go on; return whether that could be recorded."""
        try:
            self._save_or_refuse()
        except DeployFailed as error:
            _answer(writer, {"error": error.as_dict()})
            return False
        log.info("%s: passes its sockets on to a successor", self._home.endpoint)
        _answer(writer, {"ok": None}, [supervisor.fileno() for supervisor in self._slots.values()])
        return True

    def _leave(self, writer: asyncio.StreamWriter) -> None:
        """End at once, once a successor has the sockets: the replicas go on, and are its own by the record.

        One that can't be answered has given up meanwhile: then this one stays.
        """
        self._save_or_refuse()
        _answer(writer, {"ok": None})
        os._exit(0)

    async def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"ok": await self._obey(body)}
        except SlipwayError as error:
            return {"error": error.as_dict()}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": UsageError(f"not a command of this supervisor: {error!r}").as_dict()}

    async def _obey(self, body: dict[str, Any]) -> dict[str, Any] | None:
        command = Command(body["command"])
        if command is Command.OBSERVE:
            return state_as_dict(await self._observe(Slot(body["slot"])))
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
            self._save_or_refuse()
        except DeployFailed:
            # Whoever reads the record must never find a smaller epoch than the one that is obeyed.
            self._record.epoch = before
            raise

    def _save_or_refuse(self) -> None:
        try:
            self._save()
        except OSError as error:
            raise DeployFailed(
                f"the supervisor cannot record a change: {error}", next="make room on the disk, then try again"
            ) from error


def _body(line: bytes) -> dict[str, Any]:
    """Return the command of a line; one without any for what is none."""
    try:
        body = json.loads(line)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _answer(writer: asyncio.StreamWriter, reply: dict[str, Any], sockets: Sequence[int] = ()) -> None:
    """Answer at once, with sockets if there are any; raise ConnectionError when nobody is there."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as connection:
        give_sockets(connection, json.dumps(reply).encode() + b"\n", sockets)
