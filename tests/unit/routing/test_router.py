"""The router: on the shipped factors, on a source's hours, and with what cannot be answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import GridUnavailableError, RoutingError
from marlin.estimation import default_estimator, shipped_factor_set
from marlin.grid.provider import Basis, Estimate, GridValue, Signal
from marlin.routing import STRATEGIES, CarbonAwareRouter, RegionChoice
from marlin.routing.hours import windows
from marlin.routing.score import score, weights_of
from marlin.routing.site import Sites, stress_class

HOUR = timedelta(hours=1)
NEXT_YEAR = datetime(datetime.now(UTC).year + 1, 5, 1, tzinfo=UTC)
"""Midnight, in the future: asked of a source's forecast."""

LAB = ["us-east-1", "eu-west-1", "ap-southeast-1", "us-west-2"]
AWS = [r.region for r in shipped_factor_set().regions.values() if r.provider == "aws"]


class Grid:
    """A source in this process: what it forecasts by zone, hour by hour from `begin`."""

    name = "scripted"

    def __init__(
        self,
        forecasts: dict[str, Sequence[float | None]],
        *,
        begin: datetime = NEXT_YEAR,
        basis: Basis = "lifecycle",
        signal: Signal = "average",
    ) -> None:
        self.forecasts = forecasts
        self.begin = begin
        self.basis: Basis = basis
        self.signal: Signal = signal

    def values(self, zone: str, estimate: Estimate) -> list[GridValue]:
        return [
            GridValue(
                *(zone, self.begin + number * HOUR, value, self.basis, self.signal, estimate),
                *(self.name, NEXT_YEAR),
            )
            for number, value in enumerate(self.forecasts.get(zone, ()))
            if value is not None
        ]

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        return [v for v in self.values(zone, "measured") if start <= v.hour < end]

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        return [v for v in self.values(zone, "forecast") if v.hour < until]

    async def aclose(self) -> None: ...


class AwayGrid(Grid):
    """A source that cannot be reached."""

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        raise GridUnavailableError("scripted: no answer for 15 s", provider=self.name)


def test_lowest_carbon_of_the_lab() -> None:
    chosen = CarbonAwareRouter().select_region(LAB)

    assert chosen.region == "us-west-2"
    assert chosen.carbon_intensity_g_kwh == 119.76
    assert chosen.carbon_g_per_it_kwh == pytest.approx(119.76 * 1.12)
    assert chosen.water_l_per_kwh == 9.5
    assert (chosen.water_stress, chosen.water_stress_class) == (0.0, "low")
    assert (chosen.start, chosen.forecast_valid_until, chosen.latency_ms) == (None, None, None)
    assert chosen.reasons[:2] == (
        "lowest carbon: 134.1 gCO2e per kWh of IT energy (119.8 g/kWh grid x PUE 1.12)",
        "79% less carbon than ap-southeast-1",
    )
    assert "2023" in chosen.carbon_source
    assert [one.region for one in chosen.alternatives] == [
        *("eu-west-1", "us-east-1", "ap-southeast-1")
    ]
    assert chosen.alternatives[0].reasons[:2] == (
        "3.3 times the carbon of us-west-2",
        "85% less water than us-west-2",
    )


def test_lowest_water_of_the_lab() -> None:
    chosen = CarbonAwareRouter().select_region(LAB, "lowest_water")

    assert chosen.region == "eu-west-1"
    assert chosen.water_l_per_it_kwh == pytest.approx(1.4769 * 1.11)
    assert chosen.reasons[0] == "lowest water: 1.64 L of water per kWh of IT energy"
    worst = next(one for one in chosen.alternatives if one.region == "ap-southeast-1")
    assert "water of electricity: the world's average stands in" in worst.reasons
    assert "water stress unknown" in worst.reasons


def test_pue_decides_where_the_grids_are_nearly_alike() -> None:
    # us-east-1 has the cleaner grid (396.25 to 403.4 g/kWh), eu-west-1 the better PUE.
    chosen = CarbonAwareRouter().select_region(["us-east-1", "eu-west-1"])

    assert chosen.region == "eu-west-1"
    assert chosen.carbon_intensity_g_kwh > chosen.alternatives[0].carbon_intensity_g_kwh


def test_three_strategies_choose_three_regions() -> None:
    candidates = ["eu-west-1", "eu-west-3", "us-east-1", "ca-central-1"]
    router = CarbonAwareRouter()

    assert [router.select_region(candidates, strategy).region for strategy in STRATEGIES] == [
        *("ca-central-1", "eu-west-1", "eu-west-3")
    ]


def test_weights_move_the_balance() -> None:
    router = CarbonAwareRouter()

    def chosen(**weights: float) -> str:
        return router.select_region(LAB, "balanced", weights=weights).region

    assert chosen(carbon=1) == "us-west-2"
    assert chosen(carbon=9, water=1) == "us-west-2"
    assert chosen(water=3) == "eu-west-1"
    assert chosen(water_stress=1) == "us-west-2"


@pytest.mark.parametrize("key", ["gcp:europe-west1", "azure:westeurope", "aws:eu-west-1"])
def test_water_and_carbon_are_the_estimators(key: str) -> None:
    provider, region = key.split(":")
    by = default_estimator().coefficients("gpt-4o", provider, region)
    chosen = CarbonAwareRouter().select_region([key])

    assert chosen.carbon_intensity_g_kwh == by.intensity_g_per_kwh
    assert chosen.water_l_per_kwh == pytest.approx(by.water_ml_per_wh, rel=1e-12)


def test_zones_and_countries_are_candidates() -> None:
    chosen = CarbonAwareRouter().select_region(["SE", "POL"])

    assert chosen.region == "SE"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("us-esat-1", "did you mean us-west-1 or us-east-1"),
        ("aws:europe-west1", "region 'europe-west1' of provider 'aws' is unknown"),
        ("atlantis", "region 'atlantis' is unknown. Nothing was chosen"),
        ("", "region '' is unknown"),
    ],
)
def test_an_unknown_region_is_an_error_that_names_near_ones(name: str, said: str) -> None:
    with pytest.raises(RoutingError, match=said):
        CarbonAwareRouter().select_region(["eu-west-1", name])


def test_latency_leaves_out_what_is_far_or_untold() -> None:
    router = CarbonAwareRouter(latency_ms={"us-east-1": 12, "us-west-2": 70.5})

    chosen = router.select_region(LAB, max_latency_ms=50)

    assert (chosen.region, chosen.latency_ms, chosen.alternatives) == ("us-east-1", 12, ())
    assert chosen.reasons[0].startswith("the only candidate that fits: ")
    assert "us-west-2 is out: 70.5 ms is above 50 ms" in chosen.reasons
    assert "eu-west-1 is out: its latency was not told" in chosen.reasons
    with pytest.raises(RoutingError, match=r"no candidate fits: .*us-west-2 is out: 70\.5 ms"):
        router.select_region(LAB, max_latency_ms=5)


def test_latency_as_a_weight_needs_to_be_known() -> None:
    weights = {"carbon": 1.0, "latency": 20.0}
    with pytest.raises(RoutingError, match="latency has a weight"):
        CarbonAwareRouter().select_region(LAB, "balanced", weights=weights)

    near = CarbonAwareRouter(latency_ms={**dict.fromkeys(LAB, 200.0), "ap-southeast-1": 2.0})
    assert near.select_region(LAB, "balanced", weights=weights).region == "ap-southeast-1"


@pytest.mark.parametrize(
    "weights",
    [{"carbon": -1.0, "water": 2.0}, {"carbon": 0.0}, {}, {"money": 1.0}, {"carbon": float("nan")}],
)
def test_unfit_weights_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(RoutingError, match="weights of 0 or more"):
        CarbonAwareRouter().select_region(LAB, "balanced", weights=weights)


def test_what_contradicts_itself_is_refused() -> None:
    router = CarbonAwareRouter()
    with pytest.raises(RoutingError, match="'cheapest' is unknown, expected one of lowest_carbon"):
        router.select_region(LAB, "cheapest")  # type: ignore[arg-type]
    with pytest.raises(RoutingError, match="weights are for the strategy balanced"):
        router.select_region(LAB, "lowest_water", weights={"carbon": 1})
    with pytest.raises(RoutingError, match="at least one candidate"):
        router.select_region([])
    with pytest.raises(RoutingError, match="1 hour or more"):
        router.select_region(LAB, duration_h=0)
    with pytest.raises(RoutingError, match=r"2027-01-01T03:00:00\+00:00 or later was expected"):
        router.select_region(
            LAB,
            at=datetime(2027, 1, 1, tzinfo=UTC),
            deadline=datetime(2027, 1, 1, 2, 59, tzinfo=UTC),
            duration_h=3,
        )


def test_the_hour_of_the_source_counts_not_the_year() -> None:
    # This hour the windy zone is the cleaner one, whatever the year says.
    router = CarbonAwareRouter(grid=Grid({"IE": [50.0], "US-NW-BPAT": [300.0]}))

    chosen = router.select_region(["eu-west-1", "us-west-2"], at=NEXT_YEAR)

    assert (chosen.region, chosen.carbon_intensity_g_kwh) == ("eu-west-1", 50.0)
    assert chosen.start == NEXT_YEAR
    assert chosen.forecast_valid_until == NEXT_YEAR + HOUR
    assert chosen.carbon_source == "scripted, average lifecycle, forecast"


def test_a_deadline_lets_it_wait_for_cleaner_hours() -> None:
    grid = Grid({"IE": [400, 300, 90, 110, 80, 500], "US-NW-BPAT": [100, 100, 120, 130, 140, 150]})
    router = CarbonAwareRouter(grid=grid)
    both = ["eu-west-1", "us-west-2"]

    now = router.select_region(both, at=NEXT_YEAR, duration_h=2)
    later = router.select_region(both, at=NEXT_YEAR, deadline=NEXT_YEAR + 5 * HOUR, duration_h=2)

    assert (now.region, now.start, now.carbon_intensity_g_kwh) == ("us-west-2", NEXT_YEAR, 100)
    assert (later.region, later.start) == ("eu-west-1", NEXT_YEAR + 3 * HOUR)
    assert later.carbon_intensity_g_kwh == 95
    # The hour that starts at the deadline is not asked for.
    assert later.forecast_valid_until == NEXT_YEAR + 5 * HOUR


def test_a_gap_in_the_forecast_is_not_run_across() -> None:
    router = CarbonAwareRouter(grid=Grid({"IE": [10, None, 10, 200, 210]}))

    chosen = router.select_region(
        ["eu-west-1"], at=NEXT_YEAR, deadline=NEXT_YEAR + 5 * HOUR, duration_h=2
    )

    assert (chosen.start, chosen.carbon_intensity_g_kwh) == (NEXT_YEAR + 2 * HOUR, 105)


def test_past_hours_come_from_history() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    router = CarbonAwareRouter(grid=Grid({"IE": [111.0]}, begin=begin))

    chosen = router.select_region(["eu-west-1"], at=begin + timedelta(minutes=59))

    assert chosen.carbon_intensity_g_kwh == 111.0
    assert chosen.carbon_source == "scripted, average lifecycle, measured"


def test_a_naive_time_is_utc_and_other_zones_are_converted() -> None:
    router = CarbonAwareRouter(grid=Grid({"IE": [1.0, 2.0]}))
    plus_two = datetime.fromisoformat(f"{NEXT_YEAR.year}-05-01T03:30:00+02:00")

    naive = router.select_region(["eu-west-1"], at=NEXT_YEAR.replace(tzinfo=None))

    assert naive.carbon_intensity_g_kwh == 1.0
    assert router.select_region(["eu-west-1"], at=plus_two).carbon_intensity_g_kwh == 2.0


def test_a_source_that_fails_leaves_the_yearly_average_and_says_so() -> None:
    chosen = CarbonAwareRouter(grid=AwayGrid({})).select_region(LAB, at=NEXT_YEAR)

    assert (chosen.region, chosen.carbon_intensity_g_kwh) == ("us-west-2", 119.76)
    assert "the yearly average stands in: scripted: no answer for 15 s" in chosen.reasons
    assert chosen.forecast_valid_until is None


@pytest.mark.parametrize(("basis", "signal"), [("lifecycle", "marginal"), ("direct", "average")])
def test_other_kinds_of_intensity_are_never_mixed_with_averages(
    basis: Basis, signal: Signal
) -> None:
    # Zone IE is unknown to the source: its yearly lifecycle average must not compete.
    router = CarbonAwareRouter(grid=Grid({"US-NW-BPAT": [900.0]}, basis=basis, signal=signal))

    chosen = router.select_region(["eu-west-1", "us-west-2"], at=NEXT_YEAR)

    assert (chosen.region, chosen.alternatives) == ("us-west-2", ())
    assert any("eu-west-1 is out" in reason for reason in chosen.reasons)
    with pytest.raises(RoutingError, match="no candidate fits"):
        router.select_region(["eu-west-1"], at=NEXT_YEAR)


async def test_within_an_event_loop_it_is_awaited() -> None:
    chosen = await CarbonAwareRouter().aselect_region(LAB)

    assert chosen.region == "us-west-2"


def test_a_candidate_named_twice_counts_once() -> None:
    assert CarbonAwareRouter().select_region(["eu-west-1", "eu-west-1"]).alternatives == ()


def rank(chosen: RegionChoice) -> list[str]:
    return [chosen.region, *(one.region for one in chosen.alternatives)]


@given(st.lists(st.sampled_from(AWS), min_size=2, max_size=6, unique=True), st.data())
def test_another_candidate_never_changes_how_two_compare(
    regions: list[str], data: st.DataObject
) -> None:
    strategy = data.draw(st.sampled_from(STRATEGIES))
    router = CarbonAwareRouter()
    order = rank(router.select_region(regions, strategy))
    fewer = data.draw(st.lists(st.sampled_from(regions), min_size=1, unique=True))

    kept = rank(router.select_region(fewer, strategy))

    assert kept == [region for region in order if region in fewer] or _tied(router, regions)


def _tied(router: CarbonAwareRouter, regions: list[str]) -> bool:
    """Regions of the same figures have no order."""
    figures = [
        (one.carbon_g_per_it_kwh, one.water_l_per_it_kwh, one.water_stress)
        for one in (router.select_region([region]) for region in regions)
    ]
    return len(set(figures)) < len(figures)


def test_the_score_is_the_logarithm_of_the_weighted_geometric_mean() -> None:
    found = score(
        weights_of("balanced", {"carbon": 2, "water": 1, "water_stress": 1}),
        carbon_g_per_it_kwh=100.0,
        water_l_per_it_kwh=4.0,
        water_stress=None,
        latency_ms=None,
    )

    assert found == pytest.approx(0.5 * log(100) + 0.25 * log(4) + 0.25 * 0.5)


@pytest.mark.parametrize(
    ("points", "name"),
    [
        *[(0.0, "low"), (0.99, "low"), (1.0, "low-medium"), (2.0, "medium-high")],
        *[(3.999, "high"), (4.0, "extremely high"), (5.0, "extremely high")],
    ],
)
def test_water_stress_classes(points: float, name: str) -> None:
    assert stress_class(points) == name
    assert stress_class(None) is None


def test_windows_are_consecutive_hours() -> None:
    values = Grid({"IE": [1, 2, 3, None, 5]}).values("IE", "forecast")

    assert [w.intensity_g_per_kwh for w in windows(values, 2)] == [1.5, 2.5]
    assert [w.intensity_g_per_kwh for w in windows(values, 1)] == [1, 2, 3, 5]
    assert list(windows(values, 4)) == []


def test_a_provider_before_the_colon_picks_its_region() -> None:
    sites = Sites(shipped_factor_set())

    assert sites.find("gcp:europe-west1").place.region.key == "gcp:europe-west1"
    assert sites.find(" eu-west-1 ").place.region.key == "aws:eu-west-1"
