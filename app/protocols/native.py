"""Answers predictions from a request's headers and body alone; never buffers more than the limit."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec

from app.errors import RequestError, error_body
from app.model.bundle import Answer
from app.model.microbatch import MicroBatcher
from app.model.scoring import Scorer
from app.settings import Settings

Headers = Iterable[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

ROW_LIMIT_BYTES = 1024 * 1024
BATCH_LIMIT_BYTES = 16 * 1024 * 1024
BODY_TIMEOUT_S = 10.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_JSON = b"application/json"


class ClientLeft(Exception):
    """The client closed the connection before its request was whole; there is nobody to answer."""


class RequestHead:
    """What the headers say that matters to a prediction; a request id is taken over or made."""

    __slots__ = ("content_encoding", "content_length", "content_type", "request_id")

    def __init__(self, headers: Headers) -> None:
        self.content_type = self.content_encoding = b""
        self.content_length = 0
        offered = b""
        for name, value in headers:
            if name == b"content-type":
                self.content_type = value
            elif name == b"content-length":
                # The server has parsed it already: it is a number.
                self.content_length = int(value)
            elif name == b"content-encoding":
                self.content_encoding = value
            elif name == b"x-request-id":
                offered = value
        # fullmatch: what is returned in a header must not hold a line end.
        self.request_id = offered.decode() if _REQUEST_ID.fullmatch(offered) else os.urandom(16).hex()

    def check(self, limit_bytes: int) -> None:
        """Raise RequestError for a body that is not plain JSON (415) or announced as too large (413)."""
        if self.content_encoding not in (b"", b"identity"):
            raise _unsupported("send the body without Content-Encoding")
        if self.content_type != _JSON and self.content_type.split(b";")[0].strip().lower() != _JSON:
            raise _unsupported("send the body as Content-Type: application/json")
        if self.content_length > limit_bytes:
            raise _too_large(limit_bytes)


class Prediction(msgspec.Struct):
    """The answer to one row."""

    prediction: str
    probability: float
    model: str
    version: str
    request_id: str


class BatchPrediction(msgspec.Struct):
    """The answers to many rows, in their order."""

    predictions: list[Answer]
    model: str
    version: str
    request_id: str


class Reply(msgspec.Struct):
    """A finished answer; `body` is JSON."""

    status: int
    body: bytes
    request_id: str


class Predictor:
    """Answers for one release, or with 503 for none."""

    def __init__(self, scorer: Scorer | None, settings: Settings) -> None:
        self._batcher = MicroBatcher(scorer) if scorer else None
        self._model = settings.model or ""
        self._version = settings.version or ""
        # Batches one at a time: two at once would hold twice the memory and be done no sooner.
        self._batches = asyncio.Semaphore(1)
        self._encode = msgspec.json.Encoder().encode

    async def row(self, headers: Headers, receive: Receive) -> Reply:
        """Answer `POST /predict`; raise ClientLeft."""
        head = RequestHead(headers)
        request_id = head.request_id
        try:
            batcher = self._released()
            body = await _read_body(head, receive, ROW_LIMIT_BYTES)
            answer = await batcher.score(batcher.scorer.schema.decode_row(body))
        except RequestError as error:
            return Reply(error.status, error_body(error, request_id), request_id)
        prediction = Prediction(answer.prediction, answer.probability, self._model, self._version, request_id)
        return Reply(HTTPStatus.OK, self._encode(prediction), request_id)

    async def batch(self, headers: Headers, receive: Receive) -> Reply:
        """Answer `POST /predict/batch` without holding up the event loop; raise ClientLeft."""
        head = RequestHead(headers)
        request_id = head.request_id
        try:
            scorer = self._released().scorer
            body = await _read_body(head, receive, BATCH_LIMIT_BYTES)
            async with self._batches:
                content = await asyncio.to_thread(self._score_batch, scorer, body, request_id)
        except RequestError as error:
            return Reply(error.status, error_body(error, request_id), request_id)
        return Reply(HTTPStatus.OK, content, request_id)

    def _score_batch(self, scorer: Scorer, body: bytes, request_id: str) -> bytes:
        answers = scorer.score_rows(scorer.schema.decode_batch(body))
        return self._encode(BatchPrediction(answers, self._model, self._version, request_id))

    def _released(self) -> MicroBatcher:
        if self._batcher is None:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "no_release", "no release is deployed here")
        return self._batcher


async def _read_body(head: RequestHead, receive: Receive, limit_bytes: int) -> bytes:
    head.check(limit_bytes)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body"):
                body = await _read_rest(bytearray(body), receive, limit_bytes)
    except TimeoutError as error:
        text = f"the body was not whole within {BODY_TIMEOUT_S:g} s"
        raise RequestError(HTTPStatus.REQUEST_TIMEOUT, "timeout", text) from error
    if message["type"] == "http.disconnect":
        raise ClientLeft
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    return body


async def _read_rest(body: bytearray, receive: Receive, limit_bytes: int) -> bytes:
    more = True
    while more:
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _too_large(limit_bytes: int) -> RequestError:
    text = f"the body is larger than {limit_bytes} bytes"
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text)


def _unsupported(text: str) -> RequestError:
    return RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text)
