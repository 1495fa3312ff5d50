"""An HTTP proxy that makes a server slow, or loses half of its answers."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "content-encoding"}


class Proxy:
    """Forwards to `upstream`; `fate(n)` says what becomes of the n-th request: "ok", "refused" before it is
    sent on, "lost" after it was.
    """

    def __init__(
        self, upstream: str, *, delay: float = 0.0, fate: Callable[[int], str] = lambda _: "ok"
    ) -> None:
        self.delay, self.fate, self.upstream = delay, fate, urlsplit(upstream)
        self.requests: list[tuple[str, str]] = []
        """Method and path."""
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that was killed hangs up in the middle."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Forward one request."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            number = len(self.requests)
            self.requests.append((request.command, request.path.split("?")[0]))
        fate = self.fate(number)
        time.sleep(self.delay)
        if fate == "refused":
            self._answer(request, 503, b"busy", [])
            return
        try:
            connection = http.client.HTTPConnection(str(self.upstream.netloc), timeout=60)
            headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "connection")}
            connection.request(request.command, request.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
        except OSError:
            self._answer(request, 502, b"nobody there", [])
            return
        if fate == "lost":
            request.close_connection = True
            request.connection.close()
            return
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP]
        self._answer(request, answer.status, content, kept)

    @staticmethod
    def _answer(
        request: BaseHTTPRequestHandler, status: int, content: bytes, headers: list[tuple[str, str]]
    ) -> None:
        request.send_response_only(status)
        for name, value in headers:
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
