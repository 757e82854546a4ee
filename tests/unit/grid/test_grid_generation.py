from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.grid.generation import FACTORS, Fuel, mix
from marlin.grid.provider import HOUR

T = datetime(2026, 1, 15, 10, tzinfo=UTC)
FUELS: dict[str, Fuel] = {"G": "gas", "N": "nuclear", "C": "coal", "W": "wind"}


def test_an_hour_is_the_mean_weighted_by_generation() -> None:
    found = mix({"G": {T: 38000.0}, "N": {T: 32000.0}}, FUELS)

    # (38000 x 490 + 32000 x 12) / 70000 = 19,004,000 / 70,000
    assert found[T].intensity_g_per_kwh == pytest.approx(271.4857142857143, rel=1e-15)
    assert found[T].complete


def test_an_unknown_code_is_no_clean_one() -> None:
    assert mix({"?": {T: 5.0}}, FUELS)[T].intensity_g_per_kwh == 700.0


def test_a_plants_own_use_is_no_negative_carbon() -> None:
    assert mix({"G": {T: -50.0}, "N": {T: 100.0}}, FUELS)[T].intensity_g_per_kwh == 12.0


def test_nothing_generated_is_no_value() -> None:
    assert mix({"G": {T: 0.0}, "N": {T: -1.0}}, FUELS) == {}
    assert mix({}, FUELS) == {}


def test_late_data_never_looks_like_a_clean_hour() -> None:
    # Coal has not reported 11:00 yet.
    found = mix({"C": {T: 600.0}, "W": {T: 400.0, T + HOUR: 400.0}}, FUELS)

    assert list(found) == [T]


def test_a_small_fuel_may_be_late() -> None:
    # Of coal 4.9 % were missing at 11:00, at 12:00 5.1 % of what then is there.
    coal = {T: 4.9}
    wind = {T: 95.1, T + HOUR: 95.1, T + 2 * HOUR: 91.0}
    found = mix({"C": coal, "W": wind}, FUELS)

    assert list(found) == [T, T + HOUR]
    assert (found[T].complete, found[T + HOUR].complete) == (True, False)
    assert found[T + HOUR].intensity_g_per_kwh == 11.0


def test_the_nearest_report_tells_what_is_missing() -> None:
    # The sun had set before it stopped reporting: its noon does not matter.
    sun = {T - 6 * HOUR: 500.0, T: 0.0}
    gas = {T - 6 * HOUR: 100.0, T: 100.0, T + HOUR: 100.0}

    assert mix({"W": sun, "G": gas}, FUELS)[T + HOUR].intensity_g_per_kwh == 490.0


@given(
    st.dictionaries(
        st.sampled_from(sorted(FACTORS)), st.floats(0.001, 1e6), min_size=1, max_size=11
    )
)
def test_the_mix_is_between_its_cleanest_and_its_dirtiest_fuel(power_mw: dict[Fuel, float]) -> None:
    fuels: dict[str, Fuel] = {fuel: fuel for fuel in power_mw}
    found = mix({fuel: {T: mw} for fuel, mw in power_mw.items()}, fuels)
    factors = [FACTORS[fuel].g_per_kwh for fuel in power_mw]

    slack = 1e-9
    assert min(factors) - slack <= found[T].intensity_g_per_kwh <= max(factors) + slack


def test_every_factor_has_its_source() -> None:
    assert all(factor.source and factor.g_per_kwh > 0 for factor in FACTORS.values())
