"""What an answer says, read strictly: instants, numbers, and hours made of shorter intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from marlin.errors import GridDataError
from marlin.grid.provider import HOUR, hour_of

__all__ = ["field", "hourly", "instant", "number", "rows", "spans", "utc_now"]


def utc_now() -> datetime:
    """The time (UTC)."""
    return datetime.now(UTC)


def rows(answer: object, *path: str, provider: str) -> list[dict[str, Any]]:
    """The array of objects at `path` of `answer`. Raises GridDataError where there is none."""
    found = answer
    for name in path:
        found = _members(found).get(name)
    if isinstance(found, list):
        listed = cast("list[object]", found)
        if all(isinstance(member, dict) for member in listed):
            return cast("list[dict[str, Any]]", listed)
    where = ".".join(path)
    raise _unfit(provider, f"an array of objects at {where}", answer)


def field(answer: object, name: str, *, provider: str) -> Any:
    """A member of an object. Raises GridDataError where it is missing; null counts as there."""
    members = _members(answer)
    if name not in members:
        raise _unfit(provider, f"an object with {name!r}", answer)
    return members[name]


def instant(value: Any, *, provider: str) -> datetime:
    """An ISO 8601 time with its offset from UTC, in UTC. Raises GridDataError otherwise."""
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError) as exc:
        raise _unfit(provider, "an ISO 8601 time", value) from exc
    if at.tzinfo is None:
        # Guessing UTC would count half of Europe an hour off.
        raise _unfit(provider, "a time with its offset from UTC", value)
    return at.astimezone(UTC)


def number(value: Any, *, provider: str) -> float | None:
    """A finite number, given as one or as text; None for null. Raises GridDataError otherwise."""
    if value is None:
        return None
    try:
        found = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found):
        raise _unfit(provider, "a number or null", value)
    return found


def hourly(
    points: Mapping[datetime, float], interval: timedelta, *, whole: bool = True
) -> dict[datetime, float]:
    """The mean of each hour whose intervals start at the keys of `points`, in order of time.

    With `whole`, hours that miss an interval are left out; else what is there is averaged.
    Raises ValueError where an hour is no multiple of `interval`.
    """
    if interval <= timedelta(0) or HOUR % interval:
        raise ValueError(f"an interval that divides an hour was expected, got {interval}")
    grouped: defaultdict[datetime, dict[timedelta, float]] = defaultdict(dict)
    for at, value in points.items():
        hour = hour_of(at)
        grouped[hour][(at - hour) // interval * interval] = value
    needed = HOUR // interval
    return {
        hour: math.fsum(values.values()) / len(values)
        for hour, values in sorted(grouped.items())
        if len(values) == needed or not whole
    }


def spans(
    start: datetime, end: datetime, longest: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """`start` to `end` in pieces of at most `longest`; none where they are empty."""
    while start < end:
        until = min(start + longest, end)
        yield start, until
        start = until


def _members(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _unfit(provider: str, expected: str, got: object) -> GridDataError:
    text = repr(got)
    text = text if len(text) <= 120 else text[:120] + "…"
    return GridDataError(
        f"{provider}: {expected} was expected, got {text}; nothing of this answer is used",
        provider=provider,
    )
