from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grid_api import TOKEN, FakeApi, Reply, grid_settings

from marlin.errors import ConfigurationError, GridAuthError, GridDataError, GridZoneError
from marlin.grid.electricity_maps import ElectricityMaps
from marlin.grid.provider import HOUR
from marlin.settings import GridSettings

NOW = datetime(2026, 1, 15, 12, 20, tzinfo=UTC)
HISTORY = "/carbon-intensity/history"
LATEST = "/carbon-intensity/latest"
PAST = "/carbon-intensity/past-range"
FORECAST = "/carbon-intensity/forecast"


def at(hour: int, day: int = 15) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def row(hour: datetime, value: Any, **changes: Any) -> dict[str, Any]:
    return {
        "zone": "DE",
        "carbonIntensity": value,
        "datetime": f"{hour:%Y-%m-%dT%H:%M:%S.000Z}",
        "updatedAt": "2026-01-15T12:00:00.000Z",
        "createdAt": "2026-01-12T09:47:00.000Z",
        "emissionFactorType": "lifecycle",
        "isEstimated": False,
        "estimationMethod": None,
    } | changes


@pytest.fixture
async def source(api: FakeApi) -> AsyncIterator[ElectricityMaps]:
    made = ElectricityMaps(grid_settings(api), now=lambda: NOW)
    yield made
    await made.aclose()


async def test_recent_hours(source: ElectricityMaps, api: FakeApi) -> None:
    estimated = row(at(11), 301, isEstimated=True, estimationMethod="TIME_SLICER_AVERAGE")
    api.on(
        HISTORY, Reply({"zone": "DE", "history": [row(at(9), 310), row(at(10), None), estimated]})
    )

    values = await source.history("DE", at(9), at(12))

    # 10:00 is null: not known yet, which is not zero.
    assert [(v.hour, v.intensity_g_per_kwh, v.estimate) for v in values] == [
        (at(9), 310.0, "measured"),
        (at(11), 301.0, "estimated"),
    ]
    first = values[0]
    assert (first.zone, first.basis, first.signal) == ("DE", "lifecycle", "average")
    assert (first.source, first.fetched_at, first.tier) == ("electricitymaps-v3", NOW, "hour")
    (request,) = api.requests
    assert request.query == {"zone": ["DE"], "emissionFactorType": ["lifecycle"]}
    assert request.headers["auth-token"] == TOKEN


async def test_the_present_hour_is_the_latest(source: ElectricityMaps, api: FakeApi) -> None:
    api.on(HISTORY, Reply({"zone": "DE", "history": [row(at(11), 300)]}))
    api.on(LATEST, Reply(row(at(12), 290)))

    values = await source.history("DE", at(11), at(13))

    # Called measured by its source, but the hour is not over.
    assert [(v.hour, v.intensity_g_per_kwh, v.estimate) for v in values] == [
        (at(11), 300.0, "measured"),
        (at(12), 290.0, "estimated"),
    ]


async def test_older_hours_come_in_pieces_of_ten_days(
    source: ElectricityMaps, api: FakeApi
) -> None:
    start = at(0, day=1)
    api.on(
        PAST,
        Reply({"zone": "DE", "data": [row(start, 150)]}),
        Reply({"zone": "DE", "data": [row(start + 240 * HOUR, 160)]}),
    )

    values = await source.history("DE", start, start + 250 * HOUR)

    assert [v.intensity_g_per_kwh for v in values] == [150.0, 160.0]
    assert [(r.query["start"], r.query["end"]) for r in api.asked(PAST)] == [
        (["2026-01-01T00:00:00Z"], ["2026-01-11T00:00:00Z"]),
        (["2026-01-11T00:00:00Z"], ["2026-01-11T10:00:00Z"]),
    ]
    assert api.asked(HISTORY) == []


async def test_a_free_plan_gives_the_last_day(source: ElectricityMaps, api: FakeApi) -> None:
    api.on(PAST, Reply({"error": "not in your plan"}, 403))
    api.on(HISTORY, Reply({"zone": "DE", "history": [row(at(10), 320), row(at(11), 330)]}))

    values = await source.history("DE", at(0, day=10), at(12))

    assert [v.intensity_g_per_kwh for v in values] == [320.0, 330.0]


async def test_a_zone_that_the_plan_does_not_have(source: ElectricityMaps, api: FakeApi) -> None:
    api.on(PAST, Reply({"error": "no"}, 403))
    api.on(HISTORY, Reply({"error": "no"}, 403))

    with pytest.raises(GridZoneError):
        await source.history("DE", at(0, day=10), at(12))


async def test_a_forecast(source: ElectricityMaps, api: FakeApi) -> None:
    hours = [
        {"carbonIntensity": 280 - 5 * n, "datetime": (at(11) + n * HOUR).isoformat()}
        for n in range(5)
    ]
    api.on(
        FORECAST, Reply({"zone": "DE", "forecast": hours, "updatedAt": "2026-01-15T12:10:00.000Z"})
    )

    values = await source.forecast("DE", at(15))

    # 11:00 is over, 15:00 is beyond what was asked for.
    assert [(v.hour, v.intensity_g_per_kwh) for v in values] == [
        (at(12), 275.0),
        (at(13), 270.0),
        (at(14), 265.0),
    ]
    assert {v.estimate for v in values} == {"forecast"}


async def test_a_bad_token(source: ElectricityMaps, api: FakeApi) -> None:
    api.on(HISTORY, Reply({"error": "Token is invalid"}, 401))

    with pytest.raises(GridAuthError):
        await source.history("DE", at(11), at(12))
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"zone": "FR", "history": [row(at(11), 50, zone="FR")]},
        {"zone": "DE", "history": [row(at(11), 50, zone="FR")]},
        {"zone": "DE", "history": [row(at(11), 250, emissionFactorType="direct")]},
        {"zone": "DE", "history": [row(at(11) + timedelta(minutes=15), 250)]},
        {"zone": "DE", "history": [row(at(11), -1)]},
        {"zone": "DE", "history": [row(at(11), "many")]},
        {"zone": "DE", "history": [{"zone": "DE"}]},
        {"zone": "DE", "history": None},
        {"zone": "DE"},
        [],
    ],
)
async def test_what_is_not_documented_is_not_used(
    source: ElectricityMaps, api: FakeApi, answer: object
) -> None:
    api.on(HISTORY, Reply(answer))

    with pytest.raises(GridDataError):
        await source.history("DE", at(11), at(12))


async def test_nothing_asked_nothing_fetched(source: ElectricityMaps, api: FakeApi) -> None:
    assert await source.history("DE", at(11), at(11)) == []
    assert api.requests == []


def test_a_token_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="MARLIN_GRID__ELECTRICITYMAPS_TOKEN"):
        ElectricityMaps(GridSettings())
