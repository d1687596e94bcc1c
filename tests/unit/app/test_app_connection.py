"""A connection of a replica: one request at a time, whatever else its client sends."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from uvicorn.config import Config

from app.connection import ReplicaProtocol
from app.connections import Connections, Stage
from tests.support.world.connections import GET, Service, Transport

IN_PIECES = b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"


async def connect() -> tuple[ReplicaProtocol, Transport, Service]:
    service, transport = Service(), Transport()
    config = Config(service, http=ReplicaProtocol, interface="asgi3", lifespan="off", ws="none", log_config=None)
    config.load()
    config.loaded_app = service
    protocol = ReplicaProtocol(config, Connections(), {})
    protocol.connection_made(transport)
    return protocol, transport, service


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def test_what_is_behind_a_request_is_not_read_on_before_it_is_answered() -> None:
    async def work() -> None:
        protocol, transport, service = await connect()
        protocol.data_received(GET * 3 + GET[:20])
        await asyncio.sleep(0)
        for number in range(1, 4):
            assert (len(service.methods), transport.reads) == (number, False)
            await service.answer()
        assert transport.reads and protocol.stage is Stage.HEAD
        protocol.data_received(GET[20:])
        await asyncio.sleep(0)
        await service.answer()
        assert (len(service.methods), transport.sent.count(b"HTTP/1.1 200 "), transport.closed) == (4, 4, False)

    run(work())


def test_who_sends_more_than_a_little_behind_a_request_gets_its_answer_and_the_end() -> None:
    async def work() -> None:
        protocol, transport, service = await connect()
        protocol.data_received(GET * 4000)
        await service.answer()
        assert len(service.methods) == transport.sent.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in transport.sent and transport.ended and transport.reads
        # Heard out, and then cut.
        protocol.data_received(b"x" * (1 << 20))
        assert not transport.closed
        protocol.data_received(b"x")
        assert transport.closed

    run(work())


def test_what_comes_in_one_piece_with_the_end_of_a_body_in_pieces_is_to_be_sent_again() -> None:
    async def work() -> None:
        for behind in (GET, b"\x00\x01"):
            protocol, transport, service = await connect()
            protocol.data_received(IN_PIECES + behind)
            await service.answer()
            assert (service.methods, service.refused) == (["POST"], [])
            assert transport.sent.startswith(b"HTTP/1.1 200 ") and transport.sent.count(b"HTTP/1.1 ") == 1
            assert b"connection: close" in transport.sent and transport.ended

    run(work())


def test_a_target_that_is_none_is_refused_on_a_new_connection_too() -> None:
    async def work() -> None:
        for target in (b"CONNECT a:1", b"GET http://a", b"GET http://a:999999/x"):
            protocol, transport, service = await connect()
            protocol.data_received(target + b" HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
            await asyncio.sleep(0)
            assert transport.sent.startswith(b"HTTP/1.1 400 ")
            assert (service.methods, service.refused) == ([], [400])

    run(work())
