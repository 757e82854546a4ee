"""Errors over HTTP: problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

__all__ = ["problem"]


def problem(
    status: int,
    detail: str,
    *,
    errors: Sequence[Mapping[str, object]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer of `application/problem+json`; `errors` only where there are some."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        content["errors"] = errors
    return Response(
        orjson.dumps(content), status, headers=headers, media_type="application/problem+json"
    )
