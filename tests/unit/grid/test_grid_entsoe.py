from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from grid_api import TOKEN, FakeApi, Reply, grid_settings

from marlin.errors import ConfigurationError, GridAuthError, GridDataError, GridZoneError
from marlin.grid.entsoe import EntsoE
from marlin.grid.provider import HOUR
from marlin.settings import GridSettings

T = datetime(2026, 1, 15, 9, tzinfo=UTC)
BELGIUM = "10YBE----------2"
NAMESPACE = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"


def series(
    kind: str,
    points: Mapping[int, object],
    *,
    resolution: str = "PT60M",
    curve: str = "A01",
    start: str = "2026-01-15T09:00Z",
    end: str = "2026-01-15T11:00Z",
    domain: str = "inBiddingZone_Domain",
    area: str = BELGIUM,
    unit: str = "MAW",
) -> str:
    told = "".join(
        f"<Point><position>{position}</position><quantity>{quantity}</quantity></Point>"
        for position, quantity in points.items()
    )
    return (
        f"<TimeSeries><{domain}.mRID codingScheme='A01'>{area}</{domain}.mRID>"
        f"<quantity_Measure_Unit.name>{unit}</quantity_Measure_Unit.name>"
        f"<curveType>{curve}</curveType><MktPSRType><psrType>{kind}</psrType></MktPSRType>"
        f"<Period><timeInterval><start>{start}</start><end>{end}</end></timeInterval>"
        f"<resolution>{resolution}</resolution>{told}</Period></TimeSeries>"
    )


def document(*inside: str) -> Reply:
    return Reply(f'<GL_MarketDocument xmlns="{NAMESPACE}">{"".join(inside)}</GL_MarketDocument>')


@pytest.fixture
async def source(api: FakeApi) -> AsyncIterator[EntsoE]:
    made = EntsoE(grid_settings(api), now=lambda: T + timedelta(days=1))
    yield made
    await made.aclose()


async def intensities(source: EntsoE, hours: int = 2) -> dict[datetime, float]:
    values = await source.history("BE", T, T + hours * HOUR)
    return {value.hour: value.intensity_g_per_kwh for value in values}


async def test_points_that_are_left_out_repeat_the_one_before(source: EntsoE, api: FakeApi) -> None:
    api.on(
        "/api",
        document(series("B04", {1: 2500, 2: 2600}), series("B14", {1: 3900}, curve="A03")),
    )

    values = await source.history("BE", T, T + 2 * HOUR)

    # (2500 x 490 + 3900 x 12) / 6400 and (2600 x 490 + 3900 x 12) / 6500
    assert [v.intensity_g_per_kwh for v in values] == pytest.approx([198.71875, 203.2])
    assert {(v.basis, v.signal, v.estimate, v.source) for v in values} == {
        ("lifecycle", "average", "measured", "entsoe-a75")
    }
    (request,) = api.requests
    assert request.query == {
        "securityToken": [TOKEN],
        "documentType": ["A75"],
        "processType": ["A16"],
        "in_Domain": [BELGIUM],
        "periodStart": ["202601140900"],
        "periodEnd": ["202601151100"],
    }


async def test_a_gap_that_is_no_repetition_stays_one(source: EntsoE, api: FakeApi) -> None:
    api.on("/api", document(series("B04", {1: 2500}), series("B14", {1: 3900, 2: 3900})))

    # Gas was 39 % at 09:00 and has not reported 10:00.
    assert await intensities(source) == pytest.approx({T: 198.71875})


async def test_quarter_and_half_hours_become_hours(source: EntsoE, api: FakeApi) -> None:
    quarters = dict(enumerate([100, 200, 300, 400, 400, 400, 400], start=1))
    halves = {1: 200, 2: 300, 3: 900, 4: 1000}
    api.on(
        "/api",
        document(
            series("B04", {**quarters, 8: 500}, resolution="PT15M"),
            series("B19", halves, resolution="PT30M"),
        ),
    )

    # 09:00: gas 250, wind 250. 10:00: gas 425, wind 950.
    assert await intensities(source) == pytest.approx(
        {T: 250.5, T + HOUR: (425 * 490 + 950 * 11) / 1375}
    )


async def test_an_hour_told_in_two_periods(source: EntsoE, api: FakeApi) -> None:
    first = series("B14", {1: 10}, resolution="PT30M", end="2026-01-15T09:30Z")
    second = series("B14", {1: 10, 2: 10, 3: 10}, resolution="PT30M", start="2026-01-15T09:30Z")
    api.on("/api", document(first, second))

    assert await intensities(source) == {T: 12.0, T + HOUR: 12.0}


async def test_pumping_and_storage_do_not_count(source: EntsoE, api: FakeApi) -> None:
    api.on(
        "/api",
        document(
            series("B14", {1: 100, 2: 100}),
            series("B10", {1: 900, 2: 900}),
            series("B10", {1: 900, 2: 900}, domain="outBiddingZone_Domain"),
            series("B25", {1: 50, 2: 50}),
        ),
    )

    assert await intensities(source) == {T: 12.0, T + HOUR: 12.0}


@pytest.mark.parametrize("status", [200, 400])
async def test_no_data_is_no_error(source: EntsoE, api: FakeApi, status: int) -> None:
    told = "<Reason><code>999</code><text>No matching data found</text></Reason>"
    xml = f'<Acknowledgement_MarketDocument xmlns="x">{told}</Acknowledgement_MarketDocument>'
    api.on("/api", Reply(xml, status))

    assert await source.history("BE", T, T + HOUR) == []


async def test_a_refusal_is_told(source: EntsoE, api: FakeApi) -> None:
    told = "<Reason><code>401</code><text>too long</text></Reason>"
    api.on(
        "/api", Reply(f"<Acknowledgement_MarketDocument>{told}</Acknowledgement_MarketDocument>")
    )

    with pytest.raises(GridDataError, match="401: 'too long'"):
        await source.history("BE", T, T + HOUR)


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    "<GL_MarketDocument>&c;</GL_MarketDocument>"
)
OUTSIDE = (
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    "<GL_MarketDocument>&b;</GL_MarketDocument>"
)


@pytest.mark.parametrize(
    "wrong",
    [
        Reply(BOMB),
        Reply(OUTSIDE),
        Reply("{}"),
        Reply(""),
        Reply("<GL_MarketDocument><TimeSeries>"),
        Reply("<Publication_MarketDocument/>"),
        document(series("B04", {1: 1}, area="10YFR-RTE------C")),
        document(series("B04", {1: 1}, unit="MWH")),
        document(series("", {1: 1})),
        document(series("B04", {1: 1}, resolution="P1D")),
        document(series("B04", {3: 1})),
        document(series("B04", {0: 1})),
        document(series("B04", {1: "many"})),
        document(series("B04", {1: 1}, start="2026-01-15T09:00")),
        document(series("B04", {1: 1}, end="2026-01-15T08:00Z")),
        document(series("B04", {1: 1}, curve="A03", end="9999-01-01T00:00Z")),
    ],
)
async def test_what_is_not_documented_is_not_used(
    source: EntsoE, api: FakeApi, wrong: Reply
) -> None:
    api.on("/api", wrong)

    with pytest.raises(GridDataError):
        await source.history("BE", T, T + HOUR)


async def test_long_ranges_come_in_pieces(source: EntsoE, api: FakeApi) -> None:
    api.on("/api", document())

    assert await source.history("BE", T, T + timedelta(days=100)) == []
    assert len(api.requests) == 2


async def test_a_bad_token(source: EntsoE, api: FakeApi) -> None:
    api.on("/api", Reply("<html>", 401))

    with pytest.raises(GridAuthError) as caught:
        await source.history("BE", T, T + HOUR)
    assert len(api.requests) == 1
    assert TOKEN not in str(caught.value)


async def test_other_zones_and_no_forecast(source: EntsoE, api: FakeApi) -> None:
    with pytest.raises(GridZoneError, match="zone US-MIDA-PJM is no area"):
        await source.history("US-MIDA-PJM", T, T + HOUR)
    assert await source.forecast("BE", T + 48 * HOUR) == []
    assert await source.history("BE", T, T) == []
    assert api.requests == []


def test_a_token_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="MARLIN_GRID__ENTSOE_TOKEN"):
        EntsoE(GridSettings())


async def test_what_to_install(
    source: EntsoE, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.on("/api", document())
    monkeypatch.setitem(sys.modules, "defusedxml", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'marlin-carbon\[grid\]'"):
        await source.history("BE", T, T + HOUR)
