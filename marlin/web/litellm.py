"""What LiteLLM's `generic_api` callback posts, to usage events. Pure.

LiteLLM sends each batch once, unless its sender is told to retry after a 5xx or a lost answer, and
drops it after a refusal. So the good records of a batch are taken, and only the bad ones refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from marlin.errors import DataError
from marlin.normalise.litellm import payload_event
from marlin.schemas import Usage
from marlin.sinks.untyped import is_dict, is_list
from marlin.web.ingest import MAX_LISTED, SHOWN_CHARS, BadEvent, Refusal

__all__ = ["Records", "read_records"]


@dataclass(frozen=True, slots=True)
class Records:
    """What a body of LiteLLM's came to."""

    events: list[Usage]
    """Those of a run in the order of their records; a record that the body repeats gives one."""
    skipped: int
    """Records of which no model ran: served from LiteLLM's cache, or refused [count]."""
    refused: int
    """Records that are bad [count]."""
    bad_events: tuple[BadEvent, ...]
    """The first `MAX_LISTED` of the bad ones."""


def read_records(body: bytes, *, max_records: int) -> Records | Refusal:
    """The usage events of `body`: a `StandardLoggingPayload`, an array of them, or one a line.

    Never raises, whatever `body` is. Refused as a whole where it holds no JSON or too much of it.
    """
    content = _content(body)
    if content is None:
        return Refusal(400, "a JSON object, an array of them, or one a line is expected")
    if len(content) > max_records:
        return Refusal(413, f"at most {max_records} records in a request are expected; send fewer")
    events: dict[tuple[object, ...], Usage] = {}
    skipped, bad = 0, list[BadEvent]()
    for index, payload in enumerate(content):
        read = _read_one(index, payload)
        if isinstance(read, BadEvent):
            bad.append(read)
        elif read is None:
            skipped += 1
        else:
            events.setdefault((read.run_id, *_identity(read)), read)
    return Records(_numbered(events.values()), skipped, len(bad), tuple(bad[:MAX_LISTED]))


def _content(body: bytes) -> list[Any] | None:
    """The records; a line that is no JSON counts as a bad one. None where nothing is JSON.

    The Content-Type does not tell: LiteLLM calls lines `application/json`, too. And what models
    say is in the records: Python's own reader takes the halves of emojis that others refuse.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = [_json_or_none(line) for line in body.splitlines() if line.strip()]
        return content if any(one is not None for one in content) else None
    return content if is_list(content) else [content]


def _json_or_none(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _read_one(index: int, payload: object) -> Usage | BadEvent | None:
    if not is_dict(payload):
        return BadEvent(index, None, "a JSON object is expected")
    try:
        fields = payload_event(cast(Mapping[str, Any], payload))
        return None if fields is None else Usage(**fields, producer_id="litellm", seq=0)
    except DataError as exc:
        return BadEvent(index, None, str(exc)[:SHOWN_CHARS])
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or None
        return BadEvent(index, field, first["msg"][:SHOWN_CHARS])


def _identity(event: Usage) -> tuple[str, str]:
    # Failed attempts of one call share its id; they end at different times.
    return event.event_id, event.time.isoformat()


def _numbered(events: Iterable[Usage]) -> list[Usage]:
    """With a producer and numbers that are the same whenever the same batch is sent again.

    Each batch is a producer of its own for each run in it. The pipeline remembers a bounded number
    of producers a run: one a call would push the others out within one large batch.
    """
    runs: dict[str, list[Usage]] = {}
    for event in events:
        runs.setdefault(event.run_id, []).append(event)
    numbered: list[Usage] = []
    for of_run in runs.values():
        named = "\n".join("\t".join(_identity(event)) for event in of_run)
        producer_id = f"litellm:{hashlib.sha256(named.encode()).hexdigest()[:32]}"
        for seq, event in enumerate(of_run):
            numbered.append(event.model_copy(update={"producer_id": producer_id, "seq": seq}))
    return numbered
