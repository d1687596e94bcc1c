"""A proxy before MLflow that passes requests on, holds them, or forwards one and answers 500 all the same."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "content-encoding", "date", "server"}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_FORWARD_S = 30.0


class Treatment(Enum):
    """What becomes of a request."""

    PASS = auto()
    HOLD = auto()
    FAIL_AFTER = auto()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Take it that a client which was killed leaves its connections."""


class RegistryProxy:
    """Stands at `port`; `treat` decides by method and path, `met` counts what was not passed on plainly."""

    def __init__(self, upstream: str) -> None:
        self.treat: Callable[[str, str], Treatment] = lambda method, path: Treatment.PASS
        self.met = 0
        self.released = threading.Event()
        self._client = httpx.Client(base_url=upstream, timeout=_FORWARD_S, trust_env=False)
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.port: int = self._server.server_address[1]

    def run(self) -> None:
        """Serve until `close`."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Let go of what is held, and serve no more."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        """Treat one request."""
        treatment = self.treat(request.command, request.path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if treatment is not Treatment.PASS:
            self.met += 1
        if treatment is Treatment.HOLD:
            self.released.wait()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        answer = self._client.request(request.command, request.path, content=body, headers=headers)
        failed = treatment is Treatment.FAIL_AFTER
        content = b'{"error_code": "INTERNAL_ERROR", "message": "injected"}' if failed else answer.content
        request.send_response(500 if failed else answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Write nothing."""

        def forward(handler: BaseHTTPRequestHandler) -> None:
            proxy.forward(handler)

        for method in _METHODS:
            setattr(Handler, f"do_{method}", forward)
        return Handler


@contextmanager
def registry_proxy(upstream: str) -> Iterator[RegistryProxy]:
    """Run a proxy to a registry."""
    proxy = RegistryProxy(upstream)
    threading.Thread(target=proxy.run, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
