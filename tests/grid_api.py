"""A grid provider's HTTP API on loopback: scripted answers, real sockets, real faults."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from marlin.settings import GridSettings

TOKEN = "s3cret-token"
"""The secret that no message and no log may show."""


@dataclass(frozen=True)
class Reply:
    """One answer. `cut` sends only half of the body that was announced."""

    body: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0
    cut: bool = False

    @property
    def raw(self) -> bytes:
        """The bytes of the body; what is neither bytes nor text goes as JSON."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


@dataclass(frozen=True)
class Request:
    """What was asked."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


class FakeApi:
    """Answers by path, one after the other; the last one again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self._replies: defaultdict[str, list[Reply]] = defaultdict(list)

    def on(self, path: str, *replies: Reply) -> None:
        """Set the answers of a path."""
        self._replies[path] = list(replies)

    def asked(self, path: str) -> list[Request]:
        """The requests to a path."""
        return [request for request in self.requests if request.path == path]

    def next_reply(self, request: Request) -> Reply:
        """Record a request and take its answer."""
        self.requests.append(request)
        replies = self._replies[request.path]
        if not replies:
            return Reply({"error": f"nothing at {request.path}"}, 418)
        return replies.pop(0) if len(replies) > 1 else replies[0]


@contextmanager
def running_api() -> Generator[FakeApi, None, None]:
    """A server on a free port of loopback, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = Request(
                parts.path, parse_qs(parts.query), {k.lower(): v for k, v in self.headers.items()}
            )
            reply = api.next_reply(asked)
            time.sleep(reply.delay_s)
            body = reply.raw
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if reply.cut else body)
            except OSError:
                # The client has given up on it, as it should.
                pass

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api = FakeApi(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def grid_settings(api: FakeApi, **changes: Any) -> GridSettings:
    """Settings that send every provider to `api`, with tokens and short waits."""
    secret = SecretStr(TOKEN)
    fields: dict[str, Any] = {
        "electricitymaps_token": secret,
        "electricitymaps_url": api.url,
        "watttime_username": "me",
        "watttime_password": secret,
        "watttime_url": api.url,
        "ukci_url": api.url,
        "eia_api_key": secret,
        "eia_url": api.url,
        "entsoe_token": secret,
        "entsoe_url": f"{api.url}/api",
        "timeout_s": 5.0,
        "attempts": 2,
        "retry_max_s": 0.01,
    }
    return GridSettings(**(fields | changes))
