"""What is told on the grid topic: first values, and revisions of those that changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.grid.provider import Basis, Estimate, GridValue, Signal, Tier
from marlin.grid.revisions import Told
from marlin.schemas import GridRecord

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)


def value(
    intensity: float = 300.0,
    estimate: Estimate = "measured",
    *,
    hour: datetime = HOUR,
    basis: Basis = "lifecycle",
    signal: Signal = "average",
    tier: Tier = "hour",
) -> GridValue:
    return GridValue("DE", hour, intensity, basis, signal, estimate, "script", HOUR, tier)


def after(*values: GridValue) -> tuple[Told, list[GridRecord]]:
    """What one value after the other leads to."""
    told, records = Told(), list[GridRecord]()
    for one in values:
        for record in told.news([one]):
            told.take(record)
            records.append(record)
    return told, records


def test_the_first_value_is_revision_0() -> None:
    (record,) = Told().news([value(312.25, "estimated")])

    assert (record.zone, record.hour, record.revision) == ("DE", HOUR, 0)
    assert (record.intensity_g_per_kwh, record.estimate) == (312.25, "estimated")
    assert (record.basis, record.source, record.fetched_at) == ("lifecycle", "script", HOUR)


@pytest.mark.parametrize(
    ("values", "revisions"),
    [
        ([value(300), value(300)], [(0, 300.0)]),
        ([value(300), value(310), value(310), value(300)], [(0, 300.0), (1, 310.0), (2, 300.0)]),
        ([value(300), value(300 + 1e-9)], [(0, 300.0)]),
        ([value(300, "forecast"), value(310, "forecast")], [(0, 300.0)]),
        ([value(300, "forecast"), value(310, "estimated")], [(0, 300.0), (1, 310.0)]),
        ([value(300, "estimated"), value(310, "forecast")], [(0, 300.0)]),
        ([value(300, "estimated"), value(310)], [(0, 300.0), (1, 310.0)]),
        ([value(300), value(310, "estimated")], [(0, 300.0)]),
    ],
)
def test_a_value_that_changed_is_the_next_revision(
    values: list[GridValue], revisions: list[tuple[int, float]]
) -> None:
    _, records = after(*values)
    assert [(one.revision, one.intensity_g_per_kwh) for one in records] == revisions


@pytest.mark.parametrize(
    "refused",
    [
        value(basis="direct"),
        value(signal="marginal"),
        value(basis="direct", signal="marginal"),
        value(tier="year"),
        value(tier="country"),
        value(tier="world"),
    ],
)
def test_only_average_life_cycle_values_of_the_very_hour_are_told(refused: GridValue) -> None:
    assert Told().news([refused]) == []


def test_one_round_tells_each_hour_once() -> None:
    later = HOUR + timedelta(hours=1)
    records = Told().news([value(300), value(310, hour=later), value(320)])

    assert [(one.hour, one.revision) for one in records] == [(HOUR, 0), (later, 0)]


def test_of_two_publishers_who_told_the_same_revision_the_first_counts() -> None:
    told = Told()
    (first,) = told.news([value(300)])
    (second,) = told.news([value(310)])
    told.take(first)
    told.take(second)

    (news,) = told.news([value(310)])
    assert (news.revision, news.intensity_g_per_kwh) == (1, 310.0)


def test_hours_that_nobody_asks_for_are_forgotten() -> None:
    told, _ = after(value(300), value(310, hour=HOUR + timedelta(hours=1)))
    assert told.fetched_at("DE") == HOUR
    assert told.fetched_at("FR") is None

    told.forget_before(HOUR + timedelta(hours=2))

    assert told.fetched_at("DE") is None


@given(
    st.lists(st.tuples(st.floats(0, 2000), st.sampled_from(["measured", "estimated", "forecast"])))
)
def test_revisions_count_up_and_no_value_is_told_twice_in_a_row(
    values: list[tuple[float, Estimate]],
) -> None:
    _, records = after(*[value(intensity, estimate) for intensity, estimate in values])

    assert [one.revision for one in records] == list(range(len(records)))
    assert all(a.intensity_g_per_kwh != b.intensity_g_per_kwh for a, b in pairwise(records))
    assert all(one.estimate != "forecast" for one in records[1:])
