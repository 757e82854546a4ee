"""Records as tests send them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from marlin.schemas import Policy, RunStarted, Usage, dump

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    """A Kafka record."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 1_772_366_400_000


def usage(run_id: str = "run-1", seq: int = 0, **changes: Any) -> Usage:
    fields: dict[str, Any] = {
        "event_id": f"{run_id}-{seq}",
        "run_id": run_id,
        "agent_id": "writer",
        "producer_id": "producer-1",
        "seq": seq,
        "time": NOW,
        "provider": "openai",
        "model": "gpt-4o",
        "region": "us-east-1",
        "input_tokens": 1000,
        "output_tokens": 200,
    }
    return Usage(**(fields | changes))


def started(run_id: str = "run-1", **policy: Any) -> RunStarted:
    return RunStarted(run_id=run_id, time=NOW, policy=Policy(**policy))


def record(event: Any, offset: int = 0) -> Record:
    return Record(offset, event.run_id.encode(), dump(event))


def log_of(*events: Any, start: int = 0) -> list[Record]:
    """Events as they follow each other in a log."""
    return [record(event, offset) for offset, event in enumerate(events, start)]


def raw(offset: int = 0, key: bytes | None = b"run-1", **changes: Any) -> Record:
    """A usage record with fields replaced; a field set to `...` is left out."""
    fields = orjson.loads(dump(usage())) | changes
    kept = {name: value for name, value in fields.items() if value is not ...}
    return Record(offset, key, orjson.dumps(kept))
