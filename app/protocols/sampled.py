"""Answers the executor, which pulls sampled requests; nobody else is told of them."""

from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec

from app.errors import RequestError
from app.model.sampling import Pull, SampledRequests
from app.protocols.budget import Budget
from app.protocols.reply import Reply, refused
from app.protocols.request import Receive, RequestHead, read_body
from app.settings import SampledBy, Settings

SAMPLE_PATH = "/requests/sampled"
_ASKED_BYTES = 1 << 20


class SampleRoute:
    """Answers the executor, who is alone on the replica's private address."""

    def __init__(self, sampled: SampledRequests | None, settings: Settings, budget: Budget) -> None:
        self._sampled, self._by, self._budget = sampled, settings.sampled_by, budget
        self._decoder = msgspec.json.Decoder(Pull)

    def is_asked(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a request is the executor's: on the private socket or, where there is none, not from an edge.

        Spellings that an edge may take otherwise are none of this path.
        """
        if scope["path"] != SAMPLE_PATH or scope["method"] != "POST" or scope.get("raw_path") != SAMPLE_PATH.encode():
            return False
        if self._by == SampledBy.SOCKET:
            server = scope.get("server")
            return server is not None and server[1] is None
        return all(name != b"x-forwarded-for" for name, _ in scope["headers"])

    async def answer(self, head: RequestHead, receive: Receive) -> Reply:
        """Answer a pull; raise ClientLeft."""
        try:
            if self._sampled is None:
                raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "no_release", "no release is deployed here")
            body = await read_body(head, receive, _ASKED_BYTES, self._budget)
            asked = self._decoder.decode(body)
        except msgspec.DecodeError as error:
            return refused(RequestError(HTTPStatus.BAD_REQUEST, "bad_request", str(error)), head.request_id)
        except RequestError as error:
            return refused(error, head.request_id)
        return Reply(HTTPStatus.OK, await self._sampled.pull(asked), head.request_id)
