from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grid_api import TOKEN, FakeApi, Reply, grid_settings

from marlin.errors import ConfigurationError, GridAuthError, GridDataError, GridZoneError
from marlin.grid.chain import GridChain
from marlin.grid.client import basic_authorization
from marlin.grid.provider import HOUR, headline
from marlin.grid.watttime import WattTime
from marlin.settings import GridSettings

T = datetime(2026, 1, 15, 10, tzinfo=UTC)
ZONE, REGION = "US-CAL-CISO", "CAISO_NORTH"
HISTORICAL, FORECAST = "/v3/historical", "/v3/forecast"


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.time = T

    def __call__(self) -> datetime:
        return self.time


def answer(
    values: Sequence[float | None], start: datetime = T, period_s: Any = 300, **meta: Any
) -> dict[str, Any]:
    points = [
        {"point_time": (start + n * timedelta(minutes=5)).isoformat(), "value": value}
        for n, value in enumerate(values)
    ]
    told: dict[str, Any] = {
        "data_point_period_seconds": period_s,
        "region": REGION,
        "signal_type": "co2_moer",
        "units": "lbs_co2_per_mwh",
        "warnings": [],
        "model": {"date": "2026-03-01"},
    }
    return {"data": points, "meta": told | meta}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def source(api: FakeApi, clock: Clock) -> AsyncIterator[WattTime]:
    api.on("/login", Reply({"token": "jwt-1"}), Reply({"token": "jwt-2"}))
    made = WattTime(grid_settings(api), now=clock)
    yield made
    await made.aclose()


async def test_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour(
    source: WattTime, api: FakeApi
) -> None:
    api.on(HISTORICAL, Reply(answer([1000.0] * 6 + [800.0] * 6)))

    (value,) = await source.history(ZONE, T, T + HOUR)

    # 900 lb/MWh x 453.59237 g/lb / 1000 kWh/MWh
    assert value.intensity_g_per_kwh == pytest.approx(408.233133, abs=1e-9)
    assert (value.zone, value.hour, value.estimate) == (ZONE, T, "measured")
    assert (value.signal, value.basis, value.source) == ("marginal", "direct", "watttime-v3")
    assert api.requests[0].headers["authorization"] == basic_authorization("me", TOKEN)
    assert api.requests[1].headers["authorization"] == "Bearer jwt-1"
    assert api.requests[1].query == {
        "region": [REGION],
        "signal_type": ["co2_moer"],
        "start": ["2026-01-15T10:00:00+00:00"],
        "end": ["2026-01-15T11:00:00+00:00"],
    }


async def test_hours_with_gaps_are_left_out(source: WattTime, api: FakeApi) -> None:
    api.on(HISTORICAL, Reply(answer([1000.0] * 12 + [900.0] * 11 + [None] + [800.0] * 3)))

    values = await source.history(ZONE, T, T + 3 * HOUR)

    assert [value.hour for value in values] == [T]


async def test_long_ranges_come_in_pieces(source: WattTime, api: FakeApi) -> None:
    later = T + timedelta(days=31)
    api.on(HISTORICAL, Reply(answer([1000.0] * 12)), Reply(answer([500.0] * 12, start=later)))

    values = await source.history(ZONE, T, T + timedelta(days=40))

    assert [value.hour for value in values] == [T, later]
    assert [request.query["start"] for request in api.asked(HISTORICAL)] == [
        ["2026-01-15T10:00:00+00:00"],
        ["2026-02-15T10:00:00+00:00"],
    ]


async def test_a_forecast(source: WattTime, api: FakeApi, clock: Clock) -> None:
    clock.time = T + timedelta(minutes=30)
    # The rest of this hour, the whole next one, and the begin of a third.
    api.on(FORECAST, Reply(answer([200.0] * 6 + [100.0] * 12 + [300.0] * 3, start=clock.time)))

    values = await source.forecast(ZONE, T + 2 * HOUR)

    assert [(v.hour, v.estimate) for v in values] == [(T, "forecast"), (T + HOUR, "forecast")]
    assert [v.intensity_g_per_kwh for v in values] == pytest.approx([90.718474, 45.359237])
    assert api.asked(FORECAST)[0].query["horizon_hours"] == ["2"]


async def test_the_horizon_is_bounded(source: WattTime, api: FakeApi) -> None:
    api.on(FORECAST, Reply(answer([200.0] * 12)))

    await source.forecast(ZONE, T + 500 * HOUR)
    assert await source.forecast(ZONE, T) == []

    assert [r.query["horizon_hours"] for r in api.asked(FORECAST)] == [["72"]]


async def test_one_login_for_many_askers_until_its_token_ages(
    source: WattTime, api: FakeApi, clock: Clock
) -> None:
    api.on(HISTORICAL, Reply(answer([1000.0] * 12)))

    await asyncio.gather(*(source.history(ZONE, T, T + HOUR) for _ in range(5)))
    clock.time = T + timedelta(minutes=24)
    await source.history(ZONE, T, T + HOUR)
    assert len(api.asked("/login")) == 1

    clock.time = T + timedelta(minutes=25)
    await source.history(ZONE, T, T + HOUR)
    assert len(api.asked("/login")) == 2
    assert api.requests[-1].headers["authorization"] == "Bearer jwt-2"


async def test_a_revoked_token_is_renewed_once(source: WattTime, api: FakeApi) -> None:
    api.on(HISTORICAL, Reply(status=401), Reply(answer([1000.0] * 12)))

    assert len(await source.history(ZONE, T, T + HOUR)) == 1
    assert len(api.asked("/login")) == 2


async def test_a_refused_token_is_not_renewed_for_ever(source: WattTime, api: FakeApi) -> None:
    api.on(HISTORICAL, Reply(status=401))

    with pytest.raises(GridAuthError):
        await source.history(ZONE, T, T + HOUR)
    assert len(api.asked("/login")) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_password(api: FakeApi, source: WattTime, status: int) -> None:
    api.on("/login", Reply({"error": "no"}, status))

    with pytest.raises(GridAuthError) as caught:
        await source.history(ZONE, T, T + HOUR)
    assert len(api.requests) == 1
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("login", [{}, {"token": None}, {"token": ""}, []])
async def test_a_login_without_a_token(api: FakeApi, source: WattTime, login: object) -> None:
    api.on("/login", Reply(login))

    with pytest.raises(GridDataError):
        await source.history(ZONE, T, T + HOUR)


async def test_a_region_that_the_plan_does_not_have(source: WattTime, api: FakeApi) -> None:
    api.on(HISTORICAL, Reply({"error": "subscribe"}, 403))

    with pytest.raises(GridZoneError, match="subscribe"):
        await source.history(ZONE, T, T + HOUR)
    assert len(api.asked("/login")) == 1


async def test_a_zone_without_a_region(source: WattTime, api: FakeApi) -> None:
    with pytest.raises(GridZoneError, match="zone XX has no region"):
        await source.history("XX", T, T + HOUR)
    assert api.requests == []


@pytest.mark.parametrize(
    "wrong",
    [
        answer([1.0] * 12, region="PJM_DC"),
        answer([1.0] * 12, signal_type="health_damage"),
        answer([1.0] * 12, units="percentile"),
        answer([1.0] * 12, period_s=420),
        answer([1.0] * 12, period_s=0),
        {"data": []},
        {"meta": {}},
    ],
)
async def test_what_is_not_documented_is_not_used(
    source: WattTime, api: FakeApi, wrong: object
) -> None:
    api.on(HISTORICAL, Reply(wrong))

    with pytest.raises(GridDataError):
        await source.history(ZONE, T, T + HOUR)


async def test_marginal_values_never_count(source: WattTime, api: FakeApi) -> None:
    api.on(HISTORICAL, Reply(answer([1000.0] * 12)))

    assert headline(await source.history(ZONE, T, T + HOUR)) == []
    with pytest.raises(ConfigurationError, match="its values are marginal"):
        GridChain([source])


def test_an_account_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="MARLIN_GRID__WATTTIME_USERNAME"):
        WattTime(GridSettings(watttime_username="me"))
