"""The event contracts: one file per family, strict, JSON on the wire.

| topic | families |
|---|---|
| `marlin.events.v1` | `Usage`, `RunStarted`, `RunFinished`, `AbortAcknowledged` |
| `marlin.carbon.v1` | `Carbon`, `Lifecycle` |
| `marlin.commands.v1` | `Command` |
| `marlin.grid.v1` | `GridRecord` |
| `marlin.deadletter.v1` | the refused record as it was, with `DeadLetter` in its headers |
"""

from __future__ import annotations

from marlin.schemas.carbon import Carbon, Lifecycle, SourcePosition
from marlin.schemas.command import Command, command_id
from marlin.schemas.deadletter import DeadLetter
from marlin.schemas.grid import GridRecord
from marlin.schemas.runs import AbortAcknowledged, Policy, RunFinished, RunStarted
from marlin.schemas.usage import MAX_TOKENS, Usage
from marlin.schemas.wire import (
    CARBON_RECORDS,
    EVENT,
    EVENTS,
    CarbonRecord,
    Event,
    dump,
)

__all__ = [
    "CARBON_RECORDS",
    "EVENT",
    "EVENTS",
    "MAX_TOKENS",
    "AbortAcknowledged",
    "Carbon",
    "CarbonRecord",
    "Command",
    "DeadLetter",
    "Event",
    "GridRecord",
    "Lifecycle",
    "Policy",
    "RunFinished",
    "RunStarted",
    "SourcePosition",
    "Usage",
    "command_id",
    "dump",
]
