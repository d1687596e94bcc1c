"""A connection of the API: one request at a time, whatever else its client sends."""

import asyncio

from uvicorn.config import Config
from uvicorn.server import ServerState

from pipelines.api.connection import ApiProtocol
from tests.support.world.connections import GET, Service, Transport


def test_what_is_behind_a_request_is_not_read_on_before_it_is_answered() -> None:
    async def work() -> None:
        service, transport = Service(), Transport()
        config = Config(service, http=ApiProtocol, interface="asgi3", lifespan="off", ws="none", log_config=None)
        config.load()
        protocol = ApiProtocol(config, ServerState(), {})
        protocol.connection_made(transport)
        protocol.data_received(GET * 3 + GET[:20])
        await asyncio.sleep(0)
        for number in range(1, 4):
            assert (len(service.methods), transport.reads) == (number, False)
            await service.answer()
        assert transport.reads
        protocol.data_received(GET[20:])
        await asyncio.sleep(0)
        await service.answer()
        assert (len(service.methods), transport.sent.count(b"HTTP/1.1 200 "), transport.closed) == (4, 4, False)
        protocol.connection_lost(None)

    asyncio.run(asyncio.wait_for(work(), 10))
