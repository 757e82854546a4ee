"""`POST /restatements`: another process hands a restatement to the one that owns the database.

The body is an Arrow stream of the adjustments; the header stands in its schema's metadata as
`marlin.restatement` (JSON). The answer is `{"restatement_id": …, "adjustments": n}`, n being 0
where it was written before; 400 with `{"error": …}` where it is no restatement, 409 where the
sink refuses it, 413 where it is too large. In each of these nothing was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from marlin.errors import DataError, SinkError
from marlin.restatement.core import Restatement
from marlin.restatement.wire import unpack

__all__ = ["MAX_BODY_BYTES", "PATH", "restate_route"]

PATH = "/restatements"

MAX_BODY_BYTES = 1024**3
"""About 3 million adjustments [bytes]."""


def restate_route(adjust: Callable[[Restatement], int]) -> Route:
    """The route; `adjust` is called in a thread."""

    async def restate(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                return _refusal(f"a restatement of at most {MAX_BODY_BYTES} bytes is expected", 413)
        try:
            restatement = await asyncio.to_thread(unpack, bytes(body))
            written = await asyncio.to_thread(adjust, restatement)
        except DataError as exc:
            return _refusal(str(exc), 400)
        except SinkError as exc:
            return _refusal(str(exc), 409)
        return JSONResponse({"restatement_id": restatement.restatement_id, "adjustments": written})

    return Route(PATH, restate, methods=["POST"])


def _refusal(error: str, status: int) -> Response:
    return JSONResponse({"error": error}, status)
