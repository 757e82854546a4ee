"""A request's body to events: all of them valid, or a refusal that says why. Pure.

The work on a hostile body is bounded: nothing is validated beyond the number of events allowed,
the size of an event, and the number of bad events that an answer lists.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import orjson
from pydantic import ValidationError

from marlin.schemas import EVENT, Event
from marlin.sinks.untyped import is_list

__all__ = [
    "MAX_EVENT_BYTES",
    "MAX_LISTED",
    "SHOWN_CHARS",
    "BadEvent",
    "Format",
    "Refusal",
    "format_of",
    "read_events",
]

MAX_LISTED = 20
"""Most bad events that a refusal lists [count]. Those behind them are not looked at."""

MAX_EVENT_BYTES = 256 * 1024
"""Largest event [bytes], above what the contracts' own limits allow even with every character
escaped. Refused unread: Pydantic takes seconds to name 100,000 unknown fields."""

SHOWN_CHARS = 300
"""Most of a reason or a field's name that an answer shows [characters]."""


class Format(Enum):
    """How events are laid out in a body."""

    JSON = "application/json"
    """One event, or an array of them."""
    JSON_LINES = "application/x-ndjson"
    """One event a line; blank lines are skipped. Also called `application/jsonl`."""


_FORMATS = {
    "application/json": Format.JSON,
    "application/x-ndjson": Format.JSON_LINES,
    "application/jsonl": Format.JSON_LINES,
}


@dataclass(frozen=True, slots=True)
class BadEvent:
    """Why one event of a request is none."""

    index: int
    """Its place in the array, or its line, from 0."""
    field: str | None
    """Path of the first wrong field; None when it is the event as a whole."""
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused as a whole: the HTTP status, and words for its sender."""

    status: int
    detail: str
    bad_events: tuple[BadEvent, ...] = ()


class _NotJsonError(ValueError):
    """The body, or a line of it, is not JSON. Never leaves this module."""


def format_of(content_type: str | None) -> Format | None:
    """The format that a Content-Type header names; None for any other."""
    return _FORMATS.get((content_type or "").partition(";")[0].strip().lower())


def read_events(body: bytes, layout: Format, *, max_events: int) -> list[Event] | Refusal:
    """Every event of `body` in its order, or why none of them is taken.

    Never raises, whatever `body` is. No event is no error: the answer is an empty list.
    """
    parts = _of_json(body) if layout is Format.JSON else _of_lines(body)
    events: list[Event] = []
    bad: list[BadEvent] = []
    try:
        for count, (index, raw) in enumerate(parts):
            if count == max_events:
                return Refusal(
                    413, f"at most {max_events} events in a request are expected; send fewer"
                )
            read = _read_one(index, raw)
            if not isinstance(read, BadEvent):
                events.append(read)
                continue
            bad.append(read)
            if len(bad) == MAX_LISTED:
                break
    except _NotJsonError as exc:
        return Refusal(400, str(exc))
    if bad:
        return Refusal(422, "nothing was sent: the events listed in `errors` are bad", tuple(bad))
    return events


def _of_json(body: bytes) -> Iterator[tuple[int, bytes | None]]:
    try:
        content = orjson.loads(body)
    except ValueError as exc:
        raise _NotJsonError(f"a JSON object or array is expected: {exc}") from exc
    elements = content if is_list(content) else [content]
    # Each is written again: the contracts are strict about JSON, so Pydantic must read JSON.
    for index, element in enumerate(elements):
        try:
            yield index, orjson.dumps(element)
        except TypeError:
            # It reads nesting that it does not write.
            yield index, None


def _of_lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    for index, line in enumerate(io.BytesIO(body)):
        if not line.strip():
            continue
        try:
            orjson.loads(line)
        except ValueError as exc:
            raise _NotJsonError(f"a JSON object a line is expected; line {index}: {exc}") from exc
        yield index, line


def _read_one(index: int, raw: bytes | None) -> Event | BadEvent:
    if raw is None:
        return BadEvent(index, None, "nested too deeply for an event")
    if len(raw) > MAX_EVENT_BYTES:
        return BadEvent(index, None, f"expected at most {MAX_EVENT_BYTES} bytes, found {len(raw)}")
    try:
        return EVENT.validate_json(raw)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    kind, location, reason = first["type"], first["loc"], first["msg"]
    if kind.startswith("union_tag"):
        field: str | None = "type"
    else:
        # The first part is the type of event that was meant.
        field = ".".join(map(str, location[1:])) or None
    return BadEvent(index, field and field[:SHOWN_CHARS], reason[:SHOWN_CHARS])
