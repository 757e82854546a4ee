"""`marlin gateway`: events over HTTP, for runtimes that do not speak Kafka.

    POST /v1/events    202 {"accepted": n} once Kafka has all of them; otherwise none is accepted
    POST /v1/litellm   202 {"accepted": n, "skipped": n}: what LiteLLM's `generic_api` sends
    GET  /healthz      200 while the process lives
    GET  /readyz       200 while Kafka answers, else 503

Every error is `application/problem+json`. Usage that is sent again, after a 503 or a lost answer,
counts once: the pipeline drops repeats by `(producer_id, run_id, seq)`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from marlin.errors import BrokerError, ConfigurationError
from marlin.schemas import Event
from marlin.settings import GatewaySettings, Settings
from marlin.web.ingest import Format, Refusal, format_of, read_events
from marlin.web.litellm import read_records
from marlin.web.problem import problem
from marlin.web.publisher import Publisher

__all__ = ["EventLog", "gateway_app", "run_gateway", "serve"]

log = logging.getLogger("marlin.web")

RETRY_AFTER_S = 2
"""When a client is told to try again [s]."""

_STOP_GRACE_S = 5


class EventLog(Protocol):
    """Where accepted events go. `Publisher` is the one that is not for tests."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Return when all of them are durable. Raises `BrokerError` when that is not known."""
        ...

    async def reachable(self) -> bool:
        """Whether `publish` has a chance now."""
        ...


async def run_gateway(
    settings: Settings,
    *,
    stop: asyncio.Event,
    ready: asyncio.Event | None = None,
    insecure: bool = False,
) -> None:
    """Serve until `stop` is set, then finish the requests under way. Sets `ready` when listening.

    Raises `ConfigurationError` before anything is started: no cluster is configured, the address
    cannot be listened on, or others could reach it and no token is set (unless `insecure`).
    Without Kafka it serves all the same, and refuses with 503 until Kafka answers.
    """
    with _listen(settings.gateway, insecure) as listener:
        async with Publisher(settings) as publisher:
            if ready is not None:
                ready.set()
            await serve(gateway_app(settings.gateway, publisher), listener, stop=stop)


async def serve(app: Starlette, listener: socket.socket, *, stop: asyncio.Event) -> None:
    """Serve `app` on `listener` until `stop` is set, then finish the requests under way."""
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_STOP_GRACE_S,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving


def gateway_app(settings: GatewaySettings, events: EventLog) -> Starlette:
    """The HTTP application; `events` must be usable as long as it is served."""
    endpoints = _Endpoints(settings, events)
    app = Starlette(
        routes=[
            Route("/v1/events", endpoints.post_events, methods=["POST"]),
            Route("/v1/litellm", endpoints.post_litellm, methods=["POST"]),
            Route("/healthz", endpoints.healthz, methods=["GET"]),
            Route("/readyz", endpoints.readyz, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _as_problem},
    )
    # A redirected POST loses its body in many clients.
    app.router.redirect_slashes = False
    return app


class _Endpoints:
    def __init__(self, settings: GatewaySettings, events: EventLog) -> None:
        self._settings = settings
        self._events = events
        token = settings.token
        self._token = None if token is None else _digest(token.get_secret_value().encode())

    async def post_events(self, request: Request) -> Response:
        layout, body = await self._received(request)
        events = read_events(body, layout, max_events=self._settings.max_batch_events)
        if isinstance(events, Refusal):
            return _refused(events)
        if (failed := await self._publish(events)) is not None:
            return failed
        return JSONResponse({"accepted": len(events)}, 202)

    async def post_litellm(self, request: Request) -> Response:
        _, body = await self._received(request)
        read = read_records(body, max_records=self._settings.max_batch_events)
        if isinstance(read, Refusal):
            return _refused(read)
        if (failed := await self._publish(read.events)) is not None:
            return failed
        if read.refused:
            # LiteLLM logs the status of a refusal, and not what it says.
            log.warning(
                "%d of LiteLLM's records refused, their usage is lost: %s",
                *(read.refused, read.bad_events[0].reason),
            )
            return _refused(
                Refusal(
                    422,
                    f"{len(read.events)} events were sent; {read.refused} records are bad and were "
                    "dropped, see `errors`: send none of this again",
                    read.bad_events,
                )
            )
        return JSONResponse({"accepted": len(read.events), "skipped": read.skipped}, 202)

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        if await self._events.reachable():
            return JSONResponse({"status": "ok"})
        return problem(503, "Kafka cannot be reached", headers={"Retry-After": str(RETRY_AFTER_S)})

    async def _received(self, request: Request) -> tuple[Format, bytes]:
        """What a sender who may has sent. Raises `HTTPException`."""
        self._authorize(request)
        layout = format_of(request.headers.get("content-type"))
        if layout is None:
            raise HTTPException(
                415, "application/json, application/x-ndjson or application/jsonl is expected"
            )
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise HTTPException(
                415, "a body without compression is expected", {"Accept-Encoding": "identity"}
            )
        return layout, await self._body(request)

    async def _publish(self, events: Sequence[Event]) -> Response | None:
        """None once Kafka has all of them, else the answer to give."""
        try:
            await self._events.publish(events)
        except BrokerError as exc:
            return problem(503, str(exc), headers={"Retry-After": str(RETRY_AFTER_S)})
        return None

    def _authorize(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # The server reads headers as Latin-1; digests compare in constant time at any length.
        digest = _digest(given.strip().encode("latin-1", "replace"))
        if not hmac.compare_digest(digest, self._token) or scheme.lower() != "bearer":
            raise HTTPException(
                401, "a valid bearer token is required", {"WWW-Authenticate": "Bearer"}
            )

    async def _body(self, request: Request) -> bytes:
        """The body, read no further than allowed."""
        limit, body = self._settings.max_body_bytes, bytearray()
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                async for part in request.stream():
                    body += part
                    if len(body) > limit:
                        raise HTTPException(413, f"a body of at most {limit} bytes is expected")
        except TimeoutError as exc:
            raise HTTPException(408, "the body did not come in time; nothing was sent") from exc
        except ClientDisconnect as exc:
            # Nobody reads this; it only ends the request in good order.
            raise HTTPException(400, "the body ended early; nothing was sent") from exc
        return bytes(body)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Signals belong to the command, which sets `stop`.
        yield


def _refused(refusal: Refusal) -> Response:
    return problem(
        refusal.status, refusal.detail, errors=[asdict(bad) for bad in refusal.bad_events]
    )


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


async def _as_problem(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    # Its body may not have been read, and may never end: uvicorn would go on taking it.
    return problem(
        exc.status_code, exc.detail, headers={**(exc.headers or {}), "Connection": "close"}
    )


def _listen(settings: GatewaySettings, insecure: bool) -> socket.socket:
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        if not (insecure or settings.token or ipaddress.ip_address(address[0]).is_loopback):
            raise ConfigurationError(
                f"others could reach {where}, and no token is set: set MARLIN_GATEWAY__TOKEN, or "
                "give --insecure where something else keeps them out; nothing was started"
            )
        return socket.create_server((str(address[0]), settings.port), family=family)
    except (OSError, UnicodeError) as exc:
        raise ConfigurationError(
            f"cannot listen on {where}: {exc}; choose another by --host and --port, nothing was "
            "started"
        ) from exc
