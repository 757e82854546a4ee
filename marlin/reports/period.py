"""Reporting periods: whole UTC days, by name or from two dates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from marlin.errors import DataError

__all__ = ["Period", "PeriodLike", "parse_period"]

PeriodLike = str | tuple[str | date, str | date]
"""`2026-05`, `2026-Q2`, `2026`, `2026-05-31`, `2026-05-01..2026-05-31`, or the first and the last
day as a pair."""

_NAMED = re.compile(
    r"(?P<year>[12]\d{3})(-(Q(?P<quarter>[1-4])|(?P<month>\d{2})(-(?P<day>\d{2}))?))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Period:
    """Days in UTC."""

    label: str
    start: date
    """First day."""
    end: date
    """The day after the last one: exclusive."""


def parse_period(period: PeriodLike) -> Period:
    """The days that `period` means; of a pair, both days are in it.

    Raises `DataError` for what is no period, no date, or ends before it begins.

        >>> parse_period("2026-Q2")
        Period(label='2026-Q2', start=datetime.date(2026, 4, 1), end=datetime.date(2026, 7, 1))
    """
    if isinstance(period, str):
        first, dots, last = period.strip().partition("..")
        return _span(first, last) if dots else _named(first)
    return _span(*period)


def _span(first: str | date, last: str | date) -> Period:
    start, end = _day(first), _day(last)
    if end < start:
        raise DataError(f"period {start} to {end} ends before it begins; nothing was reported")
    return Period(f"{start}..{end}", start, _after(end))


def _day(day: str | date) -> date:
    if isinstance(day, datetime):
        raise DataError(f"a period is made of days, got the time {day}; nothing was reported")
    if isinstance(day, date):
        return day
    try:
        return date.fromisoformat(day.strip())
    except ValueError as exc:
        raise _unfit(day) from exc


def _named(name: str) -> Period:
    found = _NAMED.fullmatch(name)
    if found is None:
        raise _unfit(name)
    year = int(found["year"])
    try:
        if found["quarter"]:
            first = 3 * int(found["quarter"]) - 2
            return Period(name.upper(), date(year, first, 1), _month_after(year, first + 2))
        if found["day"]:
            day = date(year, int(found["month"]), int(found["day"]))
            return Period(name, day, _after(day))
        if found["month"]:
            month = int(found["month"])
            return Period(name, date(year, month, 1), _month_after(year, month))
    except ValueError as exc:
        raise _unfit(name) from exc
    return Period(name, date(year, 1, 1), date(year + 1, 1, 1))


def _month_after(year: int, month: int) -> date:
    return date(year + month // 12, month % 12 + 1, 1)


def _after(day: date) -> date:
    try:
        return day + timedelta(days=1)
    except OverflowError as exc:
        raise _unfit(str(day)) from exc


def _unfit(period: str) -> DataError:
    return DataError(
        f"{period!r} is no period: expected a month (2026-05), a quarter (2026-Q2), a year (2026), "
        "a day (2026-05-31), or the first and the last day (2026-05-01..2026-05-31); nothing was "
        "reported"
    )
