"""A query's parameters as JSON and back: times, decimals and bytes stay what they are."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from marlin.errors import QueryError
from marlin.sinks.sandbox import Params
from marlin.sinks.untyped import is_dict, is_list

__all__ = ["decode_params", "encode_params"]

_TYPE: Final = "marlin:type"
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

_READ: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda text: timedelta(microseconds=int(text)),
    "decimal": Decimal,
    "uuid": UUID,
    "bytes": b64decode,
}


def encode_params(params: Params) -> list[Any] | dict[str, Any] | None:
    """In JSON's types. Raises `QueryError` for a value that is not one of SQL's."""
    if params is None:
        return None
    if isinstance(params, Mapping):
        return {name: _encode(value) for name, value in params.items()}
    if isinstance(params, str | bytes):
        raise QueryError("expected parameters as a list or a mapping, not one text")
    return [_encode(value) for value in params]


def decode_params(encoded: Any) -> Params:
    """What `encode_params` was given. Raises `QueryError` when it is nothing of the kind."""
    if encoded is None:
        return None
    try:
        if is_dict(encoded):
            return {str(name): _decode(value) for name, value in encoded.items()}
        if is_list(encoded):
            return [_decode(value) for value in encoded]
    except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError) as exc:
        raise QueryError(f"a parameter cannot be read: {exc!r}") from exc
    raise QueryError("expected params as a list or an object")


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if _INT64_MIN <= value <= _INT64_MAX else _tagged("int", str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else _tagged("float", str(value))
    if isinstance(value, bytes | bytearray):
        return _tagged("bytes", b64encode(value).decode())
    if isinstance(value, datetime):  # which is a date as well
        return _tagged("datetime", value.isoformat())
    if isinstance(value, date | time):
        return _tagged("date" if isinstance(value, date) else "time", value.isoformat())
    if isinstance(value, timedelta):
        return _tagged("timedelta", str(value // timedelta(microseconds=1)))
    if isinstance(value, Decimal | UUID):
        return _tagged("uuid" if isinstance(value, UUID) else "decimal", str(value))
    if isinstance(value, Mapping):
        return {str(name): _encode(item) for name, item in value.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    if isinstance(value, Sequence):
        return [_encode(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    raise QueryError(
        f"a parameter is a {type(value).__name__}; expected text, a number, a time, bytes, a "
        "list or a mapping of such"
    )


def _tagged(name: str, text: str) -> dict[str, str]:
    return {_TYPE: name, "value": text}


def _decode(value: Any) -> Any:
    if is_list(value):
        return [_decode(item) for item in value]
    if not is_dict(value):
        return value
    if _TYPE in value:
        return _READ[value[_TYPE]](value["value"])
    return {name: _decode(item) for name, item in value.items()}
