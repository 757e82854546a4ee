"""Records to events. A bad record never harms its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from marlin.schemas import EVENT, Event
from marlin.schemas.deadletter import Step
from marlin.streams.call import Call, decode_call

__all__ = ["Decoded", "RawRecord", "Refusal", "decode_batch"]

_SHOWN_ERRORS = 3
_SHOWN_INPUT_CHARS = 60


class RawRecord(Protocol):
    """What decoding needs of a Kafka record."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record is not an event. It is dead-lettered; the records around it go on."""

    step: Step
    reason: str


Decoded = Call | Event
"""An event: usage as a `Call` where it is spelled in the common way, else as its contract."""


def decode_batch(records: Sequence[RawRecord], *, max_event_bytes: int) -> list[Decoded | Refusal]:
    """Decode and validate `records`; the answer has one entry for each, in the same order."""
    decoded: list[Decoded | Refusal] = []
    for record in records:
        value = record.value
        call = None
        if value is not None and len(value) <= max_event_bytes:
            call = decode_call(value)
        if call is not None and record.key == call.run_id.encode():
            decoded.append(call)
        else:
            decoded.append(_decode_one(record, max_event_bytes))
    return decoded


def _decode_one(record: RawRecord, max_event_bytes: int) -> Event | Refusal:
    if record.value is None:
        return Refusal("decode", "expected a JSON event, found no value (a tombstone)")
    if len(record.value) > max_event_bytes:
        return Refusal(
            "size", f"expected at most {max_event_bytes} bytes, found {len(record.value)}"
        )
    try:
        event = EVENT.validate_json(record.value)
    except ValidationError as exc:
        return _refusal(exc)
    if record.key is None:
        return Refusal("key", f"expected the key {event.run_id!r} (the run_id), found none")
    if record.key != event.run_id.encode():
        found = record.key[:_SHOWN_INPUT_CHARS].decode(errors="backslashreplace")
        return Refusal("key", f"expected the key {event.run_id!r} (the run_id), found {found!r}")
    return event


def _refusal(exc: ValidationError) -> Refusal:
    errors = exc.errors(include_url=False, include_context=False)
    shown = [
        f"{'.'.join(map(str, error['loc'])) or 'event'}: {error['msg']}"
        f" (found {_short(error['input'])})"
        for error in errors[:_SHOWN_ERRORS]
    ]
    if len(errors) > _SHOWN_ERRORS:
        shown.append(f"and {len(errors) - _SHOWN_ERRORS} more")
    step: Step = "decode" if errors[0]["type"] == "json_invalid" else "validate"
    return Refusal(step, "; ".join(shown)[:2048])


def _short(value: object) -> str:
    text = repr(value)
    if len(text) <= _SHOWN_INPUT_CHARS:
        return text
    return text[:_SHOWN_INPUT_CHARS] + "…"
