"""Reporting periods: names, pairs, and what is none."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import DataError
from marlin.reports.period import parse_period


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("2026-05", date(2026, 5, 1), date(2026, 6, 1)),
        ("2026-12", date(2026, 12, 1), date(2027, 1, 1)),
        ("2026-Q2", date(2026, 4, 1), date(2026, 7, 1)),
        ("2026-q4", date(2026, 10, 1), date(2027, 1, 1)),
        ("2026", date(2026, 1, 1), date(2027, 1, 1)),
        ("2026-02-28", date(2026, 2, 28), date(2026, 3, 1)),
        ("2026-05-01..2026-05-31", date(2026, 5, 1), date(2026, 6, 1)),
        (("2026-05-01", date(2026, 5, 1)), date(2026, 5, 1), date(2026, 5, 2)),
    ],
)
def test_a_period_is_whole_days(period: Any, start: date, end: date) -> None:
    found = parse_period(period)
    assert (found.start, found.end) == (start, end)


@pytest.mark.parametrize(
    "period",
    [
        *("", "May", "2026-13", "2026-Q5", "2026-02-30", "26-05", "2026-05-01..", "2026-5"),
        *("2026-05-02..2026-05-01", ("9999-12-31", "9999-12-31")),
        (datetime(2026, 5, 1, tzinfo=UTC), "2026-05-02"),
    ],
)
def test_anything_else_is_refused(period: Any) -> None:
    with pytest.raises(DataError, match="nothing was reported"):
        parse_period(period)


@given(st.integers(1000, 2999))
def test_a_year_is_its_quarters_and_its_months(year: int) -> None:
    whole = parse_period(str(year))
    for parts in ([f"{year}-Q{n}" for n in range(1, 5)], [f"{year}-{n:02}" for n in range(1, 13)]):
        found = [parse_period(part) for part in parts]
        assert (found[0].start, found[-1].end) == (whole.start, whole.end)
        assert all(one.end == two.start for one, two in pairwise(found))
