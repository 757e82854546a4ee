"""The HTTP layer of a provider's package, answered by a fake in recorded shapes.

Everything above it is the real package: its clients, retries, errors, parsers and streams.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import pytest

__all__ = ["Answer", "Asked", "Server", "events", "serving"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that reached the HTTP layer."""

    host: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class Answer:
    """What comes back, piece by piece; a piece that is an exception breaks the connection."""

    status: int = 200
    json: Any = None
    pieces: tuple[str | bytes | Exception, ...] = ()
    content_type: str = "text/event-stream"
    closed: bool = False
    """Whether the caller's package has closed the response."""


def events(*data: Any, named: bool = False) -> tuple[str, ...]:
    """Server-sent events, one piece each; with the name that is their `type`, if `named`."""
    return tuple(
        (f"event: {one['type']}\n" if named else "") + f"data: {json.dumps(one)}\n\n"
        for one in data
    )


@dataclass(slots=True)
class Server:
    """Answers every request by `answer`, and remembers both."""

    answer: Callable[[Asked], Answer]
    asked: list[Asked] = field(default_factory=list[Asked])
    answers: list[Answer] = field(default_factory=list[Answer])

    def client(self, package: Any = httpx) -> Any:
        """A client of `httpx`, or of its fork `httpx2`, whose requests come here."""

        def handle(request: Any) -> Any:
            return self.handle(package, request)

        return package.Client(transport=package.MockTransport(handle))

    def async_client(self, package: Any = httpx) -> Any:
        """`client` for asyncio."""

        async def handle(request: Any) -> Any:
            return self.handle(package, request)

        return package.AsyncClient(transport=package.MockTransport(handle))

    def handle(self, package: Any, request: Any) -> Any:
        """The response to a request of `package`."""
        content = request.read()
        asked = Asked(
            request.url.host,
            request.url.path,
            dict(request.headers),
            json.loads(content) if content else None,
        )
        self.asked.append(asked)
        answer = self.answer(asked)
        self.answers.append(answer)
        if answer.json is not None:
            return package.Response(answer.status, json=answer.json)
        headers = {"content-type": answer.content_type}
        return package.Response(answer.status, headers=headers, stream=_stream(package, answer))


def _stream(package: Any, answer: Answer) -> Any:
    class Stream(package.SyncByteStream, package.AsyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            for piece in answer.pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece.encode() if isinstance(piece, str) else piece

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self:
                yield piece

        def close(self) -> None:
            answer.closed = True

        async def aclose(self) -> None:
            answer.closed = True

    return Stream()


@contextmanager
def serving(servers: Mapping[str, Server]) -> Generator[None]:
    """Answer every request of every client by the server of its host, while inside.

    For code that makes its own clients. A host without a server is a `ConnectError`: nothing
    leaves the machine.
    """

    def respond(package: Any, request: Any) -> Any:
        server = servers.get(request.url.host)
        if server is None:
            raise package.ConnectError(f"no fake for {request.url.host}", request=request)
        return server.handle(package, request)

    with pytest.MonkeyPatch.context() as patch:
        for package in (httpx, httpx2):

            def handle(_: Any, request: Any, *, package: Any = package) -> Any:
                return respond(package, request)

            async def handle_async(_: Any, request: Any, *, package: Any = package) -> Any:
                await request.aread()
                return respond(package, request)

            patch.setattr(package.HTTPTransport, "handle_request", handle)
            patch.setattr(package.AsyncHTTPTransport, "handle_async_request", handle_async)
        yield
