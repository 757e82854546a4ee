from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grid_api import TOKEN, FakeApi, Reply, grid_settings

from marlin.errors import ConfigurationError, GridAuthError, GridDataError, GridZoneError
from marlin.grid.eia import Eia
from marlin.grid.provider import HOUR
from marlin.settings import GridSettings

# The hour from 08:00 to 09:00, which EIA calls 09.
T = datetime(2026, 1, 15, 8, tzinfo=UTC)
PATH = "/electricity/rto/fuel-type-data/data/"
ZONE = "US-MIDA-PJM"


def row(period: str, fuel: str, value: Any, respondent: str = "PJM") -> dict[str, Any]:
    return {
        "period": period,
        "respondent": respondent,
        "respondent-name": "PJM Interconnection, LLC",
        "fueltype": fuel,
        "type-name": fuel,
        "value": value,
        "value-units": "megawatthours",
    }


def answer(*rows: dict[str, Any]) -> Reply:
    return Reply({"response": {"total": len(rows), "data": list(rows)}, "apiVersion": "2.1.0"})


@pytest.fixture
async def source(api: FakeApi) -> AsyncIterator[Eia]:
    made = Eia(grid_settings(api), now=lambda: T + timedelta(days=1))
    yield made
    await made.aclose()


async def test_an_hour_is_named_by_its_end(source: Eia, api: FakeApi) -> None:
    api.on(PATH, answer(row("2026-01-15T09", "NG", 38000), row("2026-01-15T09", "NUC", "32000")))

    (value,) = await source.history(ZONE, T, T + HOUR)

    assert value.hour == T
    assert value.intensity_g_per_kwh == pytest.approx(271.4857142857143, rel=1e-15)
    assert (value.basis, value.signal, value.estimate) == ("lifecycle", "average", "measured")
    (request,) = api.requests
    assert request.query["facets[respondent][]"] == ["PJM"]
    # A day before, to see which fuels there are.
    assert (request.query["start"], request.query["end"]) == (["2026-01-14T09"], ["2026-01-15T09"])


async def test_storage_nulls_and_own_use(source: Eia, api: FakeApi) -> None:
    period = "2026-01-15T09"
    api.on(
        PATH,
        answer(
            row(period, "NG", 100),
            row(period, "WND", 300),
            row(period, "SUN", -2),
            row(period, "BAT", 500),
            row(period, "PS", -80),
            row(period, "COL", None),
            row(period, "SNB", 100),
        ),
    )

    (value,) = await source.history(ZONE, T, T + HOUR)

    # (100 x 490 + 300 x 11 + 0 x 45 + 100 x 45) / 500
    assert value.intensity_g_per_kwh == pytest.approx(113.6)


async def test_late_data_is_left_out(source: Eia, api: FakeApi) -> None:
    api.on(
        PATH,
        answer(
            row("2026-01-15T09", "COL", 500),
            row("2026-01-15T09", "WND", 500),
            row("2026-01-15T10", "COL", None),
            row("2026-01-15T10", "WND", 500),
        ),
    )

    values = await source.history(ZONE, T, T + 2 * HOUR)

    assert [(v.hour, v.intensity_g_per_kwh) for v in values] == [(T, 415.5)]


async def test_answers_of_many_rows(source: Eia, api: FakeApi) -> None:
    first = [row("2026-01-15T09", f"X{n}", 1) for n in range(5000)]
    api.on(PATH, answer(*first), answer(row("2026-01-15T09", "NUC", 5000)))

    (value,) = await source.history(ZONE, T, T + HOUR)

    assert value.intensity_g_per_kwh == (5000 * 700 + 5000 * 12) / 10000
    assert [request.query["offset"] for request in api.requests] == [["0"], ["5000"]]


async def test_it_has_no_forecast(source: Eia, api: FakeApi) -> None:
    assert await source.forecast(ZONE, T + 100 * HOUR) == []
    assert await source.history(ZONE, T, T) == []
    assert api.requests == []


async def test_other_zones(source: Eia, api: FakeApi) -> None:
    with pytest.raises(GridZoneError, match="zone DE is no balancing authority"):
        await source.history("DE", T, T + HOUR)
    assert api.requests == []


async def test_a_wrong_key(source: Eia, api: FakeApi) -> None:
    api.on(PATH, Reply({"error": {"code": "API_KEY_INVALID", "message": TOKEN}}, 403))

    with pytest.raises(GridAuthError) as caught:
        await source.history(ZONE, T, T + HOUR)
    assert TOKEN not in str(caught.value)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        row("2026-01-15T09", "NG", 1, respondent="MISO"),
        row("2026-01-15 09:00", "NG", 1),
        row("2026-01-15T09", "NG", "lots"),
        {"period": "2026-01-15T09", "respondent": "PJM", "fueltype": "NG"},
    ],
)
async def test_what_is_not_documented_is_not_used(
    source: Eia, api: FakeApi, wrong: dict[str, Any]
) -> None:
    api.on(PATH, answer(wrong))

    with pytest.raises(GridDataError):
        await source.history(ZONE, T, T + HOUR)


def test_a_key_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="MARLIN_GRID__EIA_API_KEY"):
        Eia(GridSettings())
