from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import GridDataError
from marlin.grid.provider import HOUR, GridValue, headline, hour_of
from marlin.grid.readings import field, hourly, instant, number, rows, spans

T = datetime(2026, 1, 15, 10, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-15T10:00:00.000Z", T),
        ("2026-01-15T10:00Z", T),
        ("2026-01-15T12:00:00+02:00", T),
        ("2026-01-15T15:30:00+05:30", T),
        ("2026-01-14T22:00:00-12:00", T),
    ],
)
def test_times_are_read_in_utc(text: str, expected: datetime) -> None:
    found = instant(text, provider="p")

    assert found == expected
    assert found.tzinfo is UTC


@pytest.mark.parametrize("value", ["2026-01-15T10:00:00", "yesterday", "", None, 1768471200])
def test_a_time_without_its_offset_is_refused(value: Any) -> None:
    with pytest.raises(GridDataError, match="p: "):
        instant(value, provider="p")


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1.0), (2.5, 2.5), ("38000", 38000.0), ("-3", -3.0), (None, None)]
)
def test_numbers(value: Any, expected: float | None) -> None:
    assert number(value, provider="p") == expected


@pytest.mark.parametrize("value", [True, "", "n/a", "nan", "inf", float("inf"), [1], {}])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(GridDataError, match="a number or null was expected"):
        number(value, provider="p")


@pytest.mark.parametrize("answer", [None, [], {"a": None}, {"a": {"b": {}}}, {"a": {"b": [1]}}])
def test_what_has_no_rows(answer: object) -> None:
    with pytest.raises(GridDataError, match=r"array of objects at a\.b"):
        rows(answer, "a", "b", provider="p")


def test_a_missing_member_is_not_null() -> None:
    assert field({"a": None}, "a", provider="p") is None
    with pytest.raises(GridDataError, match="an object with 'b'"):
        field({"a": None}, "b", provider="p")


def test_only_whole_hours_are_averaged() -> None:
    #       10:00      10:15          10:30          10:45        11:00      11:15
    values = [10.0, 20.0, 30.0, 40.0, 5.0, 7.0]
    points = {T + n * QUARTER: value for n, value in enumerate(values)}

    assert hourly(points, QUARTER) == {T: 25.0}
    assert hourly(points, QUARTER, whole=False) == {T: 25.0, T + HOUR: 6.0}


@pytest.mark.parametrize("interval", [timedelta(0), timedelta(minutes=7), timedelta(hours=2)])
def test_an_interval_must_divide_the_hour(interval: timedelta) -> None:
    with pytest.raises(ValueError, match="divides an hour"):
        hourly({T: 1.0}, interval)


@given(
    st.integers(0, 200), st.integers(1, 30), st.floats(0, 2000), st.sampled_from([5, 15, 30, 60])
)
def test_a_constant_stays_what_it_is(start: int, hours: int, value: float, minutes: int) -> None:
    interval = timedelta(minutes=minutes)
    first = T + start * HOUR
    points = {first + n * interval: value for n in range(hours * (HOUR // interval))}

    found = hourly(points, interval)

    assert list(found) == [first + n * HOUR for n in range(hours)]
    assert all(mean == pytest.approx(value, rel=1e-12) for mean in found.values())


@given(st.integers(0, 500), st.integers(1, 50))
def test_spans_cover_everything_once(hours: int, longest: int) -> None:
    pieces = list(spans(T, T + hours * HOUR, longest * HOUR))

    assert sum((end - start for start, end in pieces), timedelta(0)) == hours * HOUR
    assert all(timedelta(0) < end - start <= longest * HOUR for start, end in pieces)
    assert all(one[1] == two[0] for one, two in pairwise(pieces))


def test_the_hour_of_a_time_elsewhere() -> None:
    # India is half an hour off, so its hours do not start where UTC's do.
    india = timezone(timedelta(hours=5, minutes=30))

    assert hour_of(datetime(2026, 1, 15, 15, 45, tzinfo=india)) == T
    with pytest.raises(ValueError, match="time zone was expected"):
        hour_of(datetime(2026, 1, 15, 15, 45))  # noqa: DTZ001


def test_clocks_that_go_back_make_no_hour_twice() -> None:
    # 25 October 2026, Berlin: 02:30 happens at 00:30 and at 01:30 UTC.
    first = instant("2026-10-25T02:30:00+02:00", provider="p")
    second = instant("2026-10-25T02:30:00+01:00", provider="p")

    assert hour_of(second) - hour_of(first) == HOUR


def value(**changes: Any) -> GridValue:
    fields: dict[str, Any] = {
        "zone": "DE",
        "hour": T,
        "intensity_g_per_kwh": 300.0,
        "basis": "lifecycle",
        "signal": "average",
        "estimate": "measured",
        "source": "p",
        "fetched_at": T,
    }
    return GridValue(**(fields | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"hour": T + QUARTER},
        {"hour": T.astimezone(timezone(timedelta(hours=1)))},
        {"intensity_g_per_kwh": -0.1},
        {"intensity_g_per_kwh": float("inf")},
        {"intensity_g_per_kwh": float("nan")},
    ],
)
def test_a_value_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(GridDataError, match="the value is not used"):
        value(**changes)


def test_only_average_lifecycle_values_count() -> None:
    fit, marginal, direct = value(), value(signal="marginal"), value(basis="direct")

    assert headline([fit, marginal, direct]) == [fit]
