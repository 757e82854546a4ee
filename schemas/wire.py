"""Bytes to events and back. JSON by pydantic in, orjson out."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import ConfigDict, Field, TypeAdapter

from marlin.schemas.base import Contract
from marlin.schemas.carbon import Carbon, Lifecycle
from marlin.schemas.runs import AbortAcknowledged, RunFinished, RunStarted
from marlin.schemas.usage import Usage

__all__ = ["CARBON_RECORDS", "EVENT", "EVENTS", "CarbonRecord", "Event", "dump"]

Event = Annotated[Usage | RunStarted | RunFinished | AbortAcknowledged, Field(discriminator="type")]
"""Anything a runtime may send on the events topic."""

CarbonRecord = Annotated[Carbon | Lifecycle, Field(discriminator="type")]
"""Anything the worker sends on the carbon topic."""

_LATER = ConfigDict(defer_build=True)

EVENT: TypeAdapter[Event] = TypeAdapter(Event, config=_LATER)
EVENTS: TypeAdapter[list[Event]] = TypeAdapter(list[Event], config=_LATER)
CARBON_RECORDS: TypeAdapter[list[CarbonRecord]] = TypeAdapter(list[CarbonRecord], config=_LATER)


def dump(record: Contract) -> bytes:
    """The record as it travels: compact JSON, times in RFC 3339 with `Z`, no null fields."""
    return orjson.dumps(record.model_dump(exclude_none=True), option=orjson.OPT_UTC_Z)
