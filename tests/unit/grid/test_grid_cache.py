from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from grid_sources import START, Clock, Source

from marlin.errors import (
    ConfigurationError,
    GridAuthError,
    GridError,
    GridRateLimitError,
    GridUnavailableError,
    GridZoneError,
)
from marlin.grid.cache import CachedGrid
from marlin.grid.provider import HOUR, GridValue, hour_of
from marlin.grid.store import GridStore
from marlin.settings import GridSettings

SETTINGS = GridSettings(refresh_after_s=900, error_pause_s=60, uncovered_pause_s=86_400)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(clock: Clock) -> Source:
    made = Source(clock)
    made.estimates = dict.fromkeys((START + n * HOUR for n in range(6)), "measured")
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GridStore]:
    made = GridStore(tmp_path / "grid", max_hours=1000)
    yield made
    made.close()


@pytest.fixture
def cache(source: Source, store: GridStore, clock: Clock) -> CachedGrid:
    return CachedGrid(source, store, SETTINGS, now=clock)


async def hours(cache: CachedGrid, first: int, last: int, zone: str = "DE") -> list[int]:
    """The hours that are known, counted from START."""
    values = await cache.history(zone, START + first * HOUR, START + last * HOUR)
    return [(value.hour - START) // HOUR for value in values]


async def test_measured_hours_are_fetched_once(
    cache: CachedGrid, source: Source, clock: Clock
) -> None:
    assert await hours(cache, 0, 6) == [0, 1, 2, 3, 4, 5]
    clock.forward(10 * 86_400)
    assert await hours(cache, 0, 6) == [0, 1, 2, 3, 4, 5]
    assert await hours(cache, 2, 4) == [2, 3]
    assert source.asked == [("DE", START, START + 6 * HOUR)]


async def test_a_restart_fetches_nothing_again(
    tmp_path: Path, source: Source, clock: Clock
) -> None:
    before: list[GridValue] = []
    for _ in range(2):
        store = GridStore(tmp_path, max_hours=1000)
        cache = CachedGrid(source, store, SETTINGS, now=clock)
        found = await cache.history("DE", START, START + 3 * HOUR)
        assert before in ([], found)
        before = found
        store.close()

    assert len(source.asked) == 1
    assert [value.fetched_at for value in before] == [clock.time] * 3


async def test_only_missing_hours_are_asked_for(cache: CachedGrid, source: Source) -> None:
    await hours(cache, 0, 3)
    await hours(cache, 1, 6)

    assert [asked[1:] for asked in source.asked] == [
        (START, START + 3 * HOUR),
        (START + 3 * HOUR, START + 6 * HOUR),
    ]


async def test_many_askers_one_fetch(cache: CachedGrid, source: Source) -> None:
    found = await asyncio.gather(*(hours(cache, 0, 6) for _ in range(50)))

    assert found == [[0, 1, 2, 3, 4, 5]] * 50
    assert len(source.asked) == 1


async def test_many_askers_one_failure(cache: CachedGrid, source: Source) -> None:
    source.error = GridUnavailableError("down", provider="source", retry_after_s=5)

    found = await asyncio.gather(*(hours(cache, 0, 6) for _ in range(20)), return_exceptions=True)

    assert {type(error) for error in found} == {GridUnavailableError}
    assert {getattr(error, "retry_after_s", None) for error in found} == {5}
    assert len(source.asked) == 1


async def test_zones_are_apart(cache: CachedGrid, source: Source) -> None:
    await asyncio.gather(hours(cache, 0, 1, "DE"), hours(cache, 0, 1, "FR"))

    assert {asked[0] for asked in source.asked} == {"DE", "FR"}


async def test_an_estimate_is_replaced_by_a_measurement(
    cache: CachedGrid, source: Source, clock: Clock
) -> None:
    source.estimates[START + 5 * HOUR] = "estimated"
    assert await hours(cache, 4, 6) == [4, 5]
    source.estimates[START + 5 * HOUR] = "measured"
    source.intensity_g_per_kwh = 250.0

    clock.forward(899)
    assert await hours(cache, 4, 6) == [4, 5]
    assert len(source.asked) == 1

    clock.forward(1)
    values = await cache.history("DE", START + 4 * HOUR, START + 6 * HOUR)
    assert [(v.intensity_g_per_kwh, v.estimate) for v in values] == [
        (300.0, "measured"),
        (250.0, "measured"),
    ]
    assert source.asked[1:] == [("DE", START + 5 * HOUR, START + 6 * HOUR)]


async def test_late_data_is_found_later(cache: CachedGrid, source: Source, clock: Clock) -> None:
    del source.estimates[START + 5 * HOUR]
    assert await hours(cache, 5, 6) == []
    source.estimates[START + 5 * HOUR] = "measured"

    assert await hours(cache, 5, 6) == []
    clock.forward(900)
    assert await hours(cache, 5, 6) == [5]
    assert len(source.asked) == 2


async def test_what_never_came_is_asked_for_once_a_day(
    cache: CachedGrid, source: Source, clock: Clock
) -> None:
    clock.time = START + timedelta(days=30)
    source.estimates = {}
    for seconds in (0, 3600, 3600, 86_400 - 7200):
        clock.forward(seconds)
        assert await hours(cache, 0, 1) == []

    assert len(source.asked) == 2


async def test_an_hour_that_the_source_loses_stays(
    cache: CachedGrid, source: Source, clock: Clock
) -> None:
    source.estimates[START + 5 * HOUR] = "estimated"
    assert await hours(cache, 5, 6) == [5]
    del source.estimates[START + 5 * HOUR]
    clock.forward(900)

    assert await hours(cache, 5, 6) == [5]


async def test_hours_ahead_are_never_asked_for(cache: CachedGrid, source: Source) -> None:
    assert await hours(cache, 7, 30) == []
    assert source.asked == []
    await hours(cache, 6, 30)
    assert source.asked == [("DE", START + 6 * HOUR, START + 7 * HOUR)]


async def test_after_an_error_it_is_left_alone(
    cache: CachedGrid, source: Source, clock: Clock
) -> None:
    source.error = GridUnavailableError("down", provider="source")
    for _ in range(3):
        with pytest.raises(GridUnavailableError, match="down"):
            await hours(cache, 0, 6)
    assert len(source.asked) == 1

    source.error = None
    clock.forward(60)
    assert await hours(cache, 0, 6) == [0, 1, 2, 3, 4, 5]


async def test_known_hours_are_given_in_spite_of_an_error(
    cache: CachedGrid, source: Source
) -> None:
    await hours(cache, 0, 3)
    source.error = GridUnavailableError("down", provider="source")

    assert await hours(cache, 0, 6) == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [
        (GridRateLimitError("slow down", provider="source", retry_after_s=300), 300),
        (GridRateLimitError("slow down", provider="source"), 60),
        (GridAuthError("no", provider="source"), 86_400),
    ],
)
async def test_some_errors_concern_every_zone(
    cache: CachedGrid, source: Source, clock: Clock, error: GridError, pause_s: float
) -> None:
    source.error = error
    for zone in ("DE", "FR"):
        with pytest.raises(type(error)):
            await hours(cache, 0, 6, zone)
    assert len(source.asked) == 1

    clock.forward(pause_s - 1)
    with pytest.raises(type(error)):
        await hours(cache, 0, 6, "FR")
    clock.forward(1)
    source.error = None
    assert len(await hours(cache, 0, 6, "FR")) == 6


async def test_an_uncovered_zone_is_remembered_over_restarts(
    source: Source, store: GridStore, clock: Clock
) -> None:
    source.error = GridZoneError("not in the plan", provider="source")
    before, cache = (CachedGrid(source, store, SETTINGS, now=clock) for _ in range(2))
    for one in (before, cache):
        with pytest.raises(GridZoneError, match="not in the plan"):
            await hours(one, 0, 6)
    assert len(source.asked) == 1

    # Another zone, and the zone's forecast, may be covered.
    source.error = None
    assert len(await hours(cache, 0, 6, "FR")) == 6
    assert len(await cache.forecast("DE", clock.time + HOUR)) == 2
    clock.forward(86_400)
    assert len(await hours(cache, 0, 6)) == 6


async def test_a_forecast_is_fetched_once_for_all(
    cache: CachedGrid, source: Source, clock: Clock
) -> None:
    now = hour_of(clock.time)
    near = await cache.forecast("DE", now + 2 * HOUR)
    far = await cache.forecast("DE", now + 12 * HOUR)

    assert [value.hour for value in near] == [now, now + HOUR]
    assert (len(far), far[0].estimate) == (12, "forecast")
    assert source.asked == [("DE", now, now + 48 * HOUR)]

    source.intensity_g_per_kwh = 200.0
    clock.forward(900)
    newer = await cache.forecast("DE", now + 2 * HOUR)
    assert [value.intensity_g_per_kwh for value in newer] == [200.0, 200.0]


async def test_an_old_forecast_stands_in_for_a_while(
    cache: CachedGrid, source: Source, clock: Clock
) -> None:
    until = clock.time + 30 * HOUR
    assert len(await cache.forecast("DE", until)) == 24
    source.error = GridUnavailableError("down", provider="source")

    clock.forward(4 * 3600)
    assert len(await cache.forecast("DE", until)) == 20
    clock.forward(40 * 3600)
    with pytest.raises(GridUnavailableError):
        await cache.forecast("DE", clock.time + HOUR)


async def test_forecasts_are_no_history(cache: CachedGrid, source: Source, clock: Clock) -> None:
    await cache.forecast("DE", clock.time + 5 * HOUR)
    source.estimates = {}

    assert await hours(cache, 6, 7) == []


async def test_the_oldest_hours_leave(tmp_path: Path, source: Source, clock: Clock) -> None:
    store = GridStore(tmp_path, max_hours=4)
    cache = CachedGrid(source, store, SETTINGS, now=clock)
    await hours(cache, 0, 6)

    kept = store.hours("source", "DE", "history", START, START + 6 * HOUR)
    assert list(kept) == [START + n * HOUR for n in range(2, 6)]
    store.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "intensities.sqlite"
    path.write_bytes(b"this is no database at all" * 100)

    GridStore(tmp_path, max_hours=10).close()

    assert path.with_suffix(".damaged").read_bytes().startswith(b"this is no database")
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM intensities").fetchone() == (0,)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="MARLIN_GRID__CACHE_DIR"):
        GridStore(tmp_path / "file" / "grid", max_hours=10)


async def test_a_file_that_fails_later(cache: CachedGrid, store: GridStore) -> None:
    store.close()

    with pytest.raises(GridUnavailableError, match="the kept grid intensities cannot be used"):
        await hours(cache, 0, 6)


async def test_two_processes_share_what_was_fetched(
    tmp_path: Path, source: Source, clock: Clock
) -> None:
    stores = [GridStore(tmp_path, max_hours=1000) for _ in range(2)]
    first, second = (CachedGrid(source, store, SETTINGS, now=clock) for store in stores)
    assert await hours(first, 0, 6) == await hours(second, 0, 6)
    for store in stores:
        store.close()

    assert len(source.asked) == 1
