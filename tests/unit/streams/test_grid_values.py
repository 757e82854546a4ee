"""Which hourly value an event is counted with: decided by the logs alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from events import Record, usage
from hypothesis import given
from hypothesis import strategies as st

from marlin.estimation import Estimator
from marlin.schemas import GridRecord, dump
from marlin.streams.grid import HourlyValues, hour_number
from marlin.streams.partition import Partition

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEXT = HOUR + timedelta(hours=1)
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
KEEP = timedelta(days=40)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def told(value: float, *, zone: str = "IE", hour: datetime = HOUR, revision: int = 0) -> GridRecord:
    return GridRecord(
        zone=zone,
        hour=hour,
        revision=revision,
        intensity_g_per_kwh=value,
        basis="lifecycle",
        estimate="measured",
        source="test",
        fetched_at=hour,
    )


def values(*records: tuple[GridRecord, int]) -> HourlyValues:
    known = HourlyValues(keep=KEEP)
    for record, published_ms in records:
        known.add(record, published_ms)
    return known


def estimated(grid: HourlyValues, *records: Record) -> list[dict[str, Any]]:
    """The carbon records of a worker that starts anew with these values."""
    partition = Partition("e", 0, estimator=Estimator(grid=grid), grid=grid)
    outcome = partition.apply(records, now=HOUR, max_event_bytes=10_000)
    return [orjson.loads(value) for _, value in outcome.carbon]


def event(offset: int, sent_ms: int, **changes: Any) -> Record:
    fields: dict[str, Any] = {"region": "eu-west-1", "provider": "aws", "time": HOUR} | changes
    return Record(offset, b"run-1", dump(usage(seq=offset, **fields)), sent_ms)


def intensities(carbon: Sequence[dict[str, Any]]) -> list[float]:
    return [record["intensity_g_per_kwh"] for record in carbon]


#   value told      + 60 s: usable                                 7 days after the hour's end
#   |               |                                              |
#   T --------------T+60 s ----------------------------------------13:00 + 7 d
#      year's value |  the hour's value                            |  year's value
@pytest.mark.parametrize(
    ("sent_ms", "usable"),
    [
        (ms(NEXT) - 1, False),
        (ms(NEXT), False),
        (ms(NEXT) + MINUTE_MS - 1, False),
        (ms(NEXT) + MINUTE_MS, True),
        (ms(NEXT) + 7 * DAY_MS - 1, True),
        (ms(NEXT) + 7 * DAY_MS, False),
    ],
)
def test_from_a_minute_after_it_was_told_until_a_week_after_its_hour(
    sent_ms: int, usable: bool
) -> None:
    assert values((told(250.0), ms(NEXT))).is_usable("IE", hour_number(HOUR), sent_ms) is usable


def test_only_the_first_record_of_revision_0_counts() -> None:
    known = values(
        (told(111.0, revision=1), ms(NEXT)),
        (told(250.0), ms(NEXT) + 1),
        (told(300.0), ms(NEXT) - HOUR_MS),
        (told(350.0, revision=2), ms(NEXT) + 2),
    )

    assert known.intensity_g_per_kwh("IE", HOUR) == 250.0
    assert not known.is_usable("IE", hour_number(HOUR), ms(NEXT) + MINUTE_MS)
    assert known.is_usable("IE", hour_number(HOUR), ms(NEXT) + MINUTE_MS + 1)


def test_what_is_older_than_kept_is_forgotten_and_not_taken_in_again() -> None:
    known = values((told(250.0), ms(NEXT)))
    old = told(250.0, hour=HOUR - timedelta(days=41))
    known.add(old, ms(HOUR))
    assert len(known) == 1

    later = HOUR + timedelta(days=41)
    known.add(told(260.0, hour=later), ms(later))
    assert len(known) == 1
    assert known.intensity_g_per_kwh("IE", HOUR) is None


def test_a_year_of_many_zones_stays_within_what_is_kept() -> None:
    known = HourlyValues(keep=timedelta(days=8))
    for day in range(60):
        for zone in ("IE", "DE", "FR"):
            at = HOUR + timedelta(days=day)
            known.add(told(100.0, zone=zone, hour=at), ms(at))

    assert len(known) <= 3 * 10


def test_an_event_is_counted_with_its_own_hour_and_says_so() -> None:
    grid = values((told(250.0), ms(NEXT)), (told(300.0, hour=NEXT), ms(NEXT)))
    sent_ms = ms(NEXT) + MINUTE_MS
    last_moment = NEXT - timedelta(microseconds=1)

    carbon = estimated(
        grid,
        event(0, sent_ms - 1),
        event(1, sent_ms),
        event(2, sent_ms, time=last_moment),
        event(3, sent_ms, time=NEXT),
        event(4, sent_ms, time=HOUR - timedelta(microseconds=1)),
    )

    assert intensities(carbon) == [403.4, 250.0, 250.0, 300.0, 403.4]
    assert [("intensity_hour" in record["quality"]) for record in carbon] == [
        *(False, True, True, True, False)
    ]
    year, hour = carbon[0], carbon[1]
    assert hour["energy_wh"] == year["energy_wh"]
    assert hour["carbon_g"] == pytest.approx(year["carbon_g"] * 250.0 / 403.4)
    assert hour["carbon_g"] == pytest.approx(hour["energy_wh"] * 0.25)


def test_without_an_hour_the_year_then_the_country_then_the_world_stand_in() -> None:
    grid = values((told(250.0), ms(NEXT)), (told(20.0, zone="US-SW-AZPS"), ms(NEXT)))
    sent_ms = ms(NEXT) + MINUTE_MS

    carbon = estimated(
        grid,
        event(0, sent_ms),
        event(1, sent_ms, region="DE"),
        event(2, sent_ms, provider="azure", region="westus3", time=NEXT),
        event(3, sent_ms, provider="azure", region="westus3"),
        event(4, sent_ms, region="nowhere"),
    )

    tiers = [
        [code for code in record["quality"] if code.startswith("intensity_")] for record in carbon
    ]
    assert tiers == [
        *(["intensity_hour"], [], ["intensity_country"], ["intensity_hour"], ["intensity_world"])
    ]
    assert intensities(carbon) == [250.0, 370.93, 384.4, 20.0, 458.3]


moments = st.integers(ms(HOUR) - HOUR_MS, ms(HOUR) + 9 * DAY_MS)
hours = st.integers(-30, 30).map(lambda number: HOUR + timedelta(hours=number))


@given(
    log=st.lists(
        st.tuples(st.sampled_from(["IE", "DE"]), hours, st.integers(0, 2), st.floats(0, 900)),
        max_size=20,
    ),
    times=st.lists(moments, min_size=20, max_size=20),
    events=st.lists(st.tuples(moments, hours, st.sampled_from(["IE", "DE", "?"])), max_size=10),
    more=st.lists(st.tuples(st.sampled_from(["IE", "DE"]), hours, st.floats(0, 900)), max_size=20),
)
def test_events_read_again_are_counted_as_before_whatever_was_told_since(
    log: list[tuple[str, datetime, int, float]],
    times: list[int],
    events: list[tuple[int, datetime, str]],
    more: list[tuple[str, datetime, float]],
) -> None:
    """At first a worker knows what was told until the newest event; later, all that came since."""
    records = [event(n, sent_ms, time=at, region=r) for n, (sent_ms, at, r) in enumerate(events)]
    newest_ms = max((record.timestamp for record in records), default=0)
    told_in_order = [
        (told(value, zone=zone, hour=hour, revision=revision), at_ms)
        for (zone, hour, revision, value), at_ms in zip(log, sorted(times), strict=False)
    ]
    known = [one for one in told_in_order if one[1] <= newest_ms]
    since = [
        *told_in_order[len(known) :],
        *(
            (told(value, zone=zone, hour=hour), newest_ms + 9 * DAY_MS)
            for zone, hour, value in more
        ),
    ]
    if not records:
        return

    assert estimated(values(*known, *since), *records) == estimated(values(*known), *records)
