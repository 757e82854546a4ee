"""A restatement as bytes: an Arrow stream whose schema carries the header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from marlin.errors import DataError
from marlin.restatement.balance import SCHEMA
from marlin.restatement.core import Kind, Restatement
from marlin.sinks.arrow import arrow

__all__ = ["pack", "unpack"]

_KEY = b"marlin.restatement"
_Name = Annotated[str, Field(min_length=1, max_length=256)]


class _Header(BaseModel):
    """What is not in the adjustments."""

    model_config = ConfigDict(extra="forbid")

    restatement_id: _Name
    kind: Kind
    reason: Annotated[str, Field(min_length=1, max_length=4096)]
    method: _Name
    factors: _Name
    period_start: AwareDatetime
    period_end: AwareDatetime
    tenant: str | None
    calls: Annotated[int, Field(ge=0)]
    positions: dict[str, dict[str, int]]
    after: tuple[str, ...]
    content: dict[str, str] | None


def pack(restatement: Restatement) -> bytes:
    """As `unpack` reads it."""
    header: dict[str, Any] = {
        name: getattr(restatement, name) for name in _Header.model_fields if name != "content"
    }
    content: Mapping[str, str] | None = restatement.content
    header["content"] = None if content is None else dict(content)
    table = restatement.adjustments.replace_schema_metadata({_KEY: orjson.dumps(header)})
    target = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(target, table.schema) as writer:
        writer.write_table(table)
    return bytes(target.getvalue())


def unpack(body: bytes) -> Restatement:
    """Raises `DataError` for anything but a whole restatement."""
    try:
        # A copy of what the stream says; nothing of it is trusted before it is cast and checked.
        table = arrow.ipc.open_stream(body).read_all()
        metadata: dict[bytes, bytes] = table.schema.metadata or {}
        header = _Header.model_validate_json(metadata[_KEY])
        adjustments = table.replace_schema_metadata(None).select(SCHEMA.names).cast(SCHEMA)
        adjustments.validate(full=True)
    except (arrow.ArrowException, OSError, KeyError, ValueError, ValidationError) as exc:
        raise DataError(f"expected a restatement as an Arrow stream: {exc}") from exc
    ids = set(adjustments["restatement_id"].unique().to_pylist())
    if ids - {header.restatement_id}:
        raise DataError(f"expected adjustments of {header.restatement_id} only")
    fields: dict[str, Any] = {name: getattr(header, name) for name in _Header.model_fields}
    return Restatement(**fields, adjustments=adjustments)
