"""From a model on a load in a place to coefficients: assumptions, boundaries, ranges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marlin.estimation import Coefficients, Estimator, ModelSpec, OperatingPoint, shipped_factor_set
from marlin.estimation.compiler import assume_load, embodied_g_per_gpu_hour, serve
from marlin.estimation.overrides import overlay

SHIPPED = shipped_factor_set()
ESTIMATOR = Estimator()
MODEL = ModelSpec(name="own", active_params_b=70)
KNOWN = OperatingPoint(hardware="H100", gpus=4, batch=64, precision="bf16")


def compiled(
    model: str | ModelSpec = MODEL,
    provider: str = "aws",
    region: str = "us-west-2",
    point: OperatingPoint | None = KNOWN,
    estimator: Estimator = ESTIMATOR,
) -> Coefficients:
    return estimator.compile(model, provider=provider, region=region, operating_point=point)


def with_factors(text: str) -> Estimator:
    return Estimator(overlay(SHIPPED, text, "test.toml"))


@pytest.mark.parametrize(
    ("provider", "kind", "code"),
    [
        ("", "open", "batch_unknown"),
        ("  ", "open", "batch_unknown"),
        ("together", "open", "batch_api"),
        ("openai", "closed", "batch_commercial"),
        ("", "closed", "batch_commercial"),
        ("openai-batch", "closed", "batch_batch_api"),
        ("ollama", "open", "batch_self_hosted"),
        ("self_hosted", "open", "batch_self_hosted"),
        ("mistral", "open", "batch_self_hosted"),
    ],
)
def test_the_load_is_assumed_by_who_serves(provider: str, kind: str, code: str) -> None:
    load = assume_load(replace(MODEL, kind=kind), provider, None, SHIPPED)
    assert load.codes == ("hardware_assumed", "gpus_assumed", "precision_assumed", code)
    assert load.batch == SHIPPED.value(code)


def test_what_is_known_is_not_assumed() -> None:
    load = assume_load(MODEL, "", KNOWN, SHIPPED)
    assert load.codes == ()
    assert (load.batch, load.batch_low, load.batch_high, load.gpus) == (64, 64, 64, 4)


def test_unknown_hardware_and_precision_have_codes() -> None:
    point = OperatingPoint(hardware="abacus", gpus=1, batch=1, precision="fp3")
    load = assume_load(MODEL, "", point, SHIPPED)
    assert load.codes == ("hardware_unknown", "precision_unknown")
    assert (load.accelerator.name, load.precision.name) == ("H100", "bf16")


def test_accelerators_hold_the_weights() -> None:
    # 70e9 x 2 bytes x 1.2 = 168 GB: four H100, one B200; at 8 bit two H100.
    for hardware, precision, count in (
        ("H100", "bf16", 4),
        ("B200", "bf16", 1),
        ("H100", "fp8", 2),
    ):
        point = OperatingPoint(hardware=hardware, precision=precision)
        load = assume_load(MODEL, "", point, SHIPPED)
        assert serve(MODEL, load, 64, 1.0, 1.2).gpus == count


def test_shapes_that_are_given_are_used() -> None:
    shaped = replace(MODEL, layers=11, kv_elements=1000, attention_width=77, state_elements=5)
    served = serve(shaped, assume_load(shaped, "", KNOWN, SHIPPED), 64, 1.0, 1.2)
    assert (served.layers, served.kv_bytes, served.attention_width) == (11, 2000, 77)
    assert served.state_bytes == 10


def test_boundaries_multiply() -> None:
    one = compiled()
    # Host 1.6, PUE 1.12 of us-west-2.
    assert one.gpu_share == pytest.approx(1 / (1.6 * 1.12))
    assert one.intensity_g_per_kwh == 119.76
    assert one.carbon_g_per_wh == pytest.approx(0.11976)


def test_cached_input_is_a_tenth_of_fresh() -> None:
    one = compiled()
    assert one.cached_wh == pytest.approx(0.1 * one.prefill_wh)


def test_embodied_is_mass_over_hours_in_use() -> None:
    active = SHIPPED.factor("embodied_active_share")
    # 500 kg over 4.5 years at 0.7.
    assert embodied_g_per_gpu_hour(SHIPPED, active) == pytest.approx(500_000 / (4.5 * 8760 * 0.7))
    one = compiled()
    # 18.1 g an accelerator hour; at 300 to 660 W of its 700 that is 27 to 60 g/kWh of accelerator.
    per_gpu_kwh = one.embodied_g_per_wh / one.gpu_share * 1000
    assert 27 < per_gpu_kwh < 60


def test_withdrawal_is_not_added_to_consumption() -> None:
    aws = compiled(region="us-west-2")
    assert aws.water_onsite_basis == "withdrawal"
    assert aws.water_ml_per_wh == aws.water_offsite_ml_per_wh == 9.5
    assert aws.water_onsite_ml_per_wh == pytest.approx(0.16 / 1.12)


def test_consumption_is_added_on_it_energy() -> None:
    gcp = compiled(provider="gcp", region="us-west1")
    assert gcp.water_onsite_basis == "consumption"
    assert gcp.water_onsite_ml_per_wh == pytest.approx(1.15 / 1.07)
    assert gcp.water_ml_per_wh == pytest.approx(9.5 + 1.15 / 1.07)


def test_the_high_end_of_water_takes_withdrawal_in_full() -> None:
    # Jakarta: on-site withdrawal 2.75 L/kWh beside 2.2554 off-site.
    jakarta = compiled(region="ap-southeast-3")
    quiet = compiled(region="eu-west-1")
    assert jakarta.water_high / jakarta.energy_high > quiet.water_high / quiet.energy_high
    assert "water_onsite_withdrawal" in jakarta.codes


def test_knowing_more_never_widens() -> None:
    blind = compiled(point=None, provider="")
    hardware = compiled(
        point=OperatingPoint(hardware="H100", gpus=4, precision="bf16"), provider=""
    )
    known = compiled(provider="")
    for wide, narrow in ((blind, hardware), (hardware, known)):
        assert wide.energy_low < narrow.energy_low
        assert wide.energy_high > narrow.energy_high
    # What is left with the operating point known: the fit's own error.
    assert known.gpu_high == pytest.approx(1.32)
    assert known.gpu_low == pytest.approx(1 / 1.32)


def test_undisclosed_parameters_widen() -> None:
    vague = replace(MODEL, params_low=0.4, params_high=2.5)
    assert compiled(vague).gpu_high > compiled().gpu_high
    assert compiled(vague).gpu_low < compiled().gpu_low


def test_a_worse_place_widens() -> None:
    zone, country = compiled(), compiled(region="USA")
    world = compiled(region="")
    assert zone.carbon_high < country.carbon_high < world.carbon_high
    assert zone.carbon_low > country.carbon_low > world.carbon_low


def test_a_users_factor_is_used() -> None:
    text = (
        '[factors.host_overhead]\nvalue = 2.0\nunit = "1"\n'
        'source = "s"\ndate = "d"\nlicence = "l"\n'
    )
    doubled = compiled(estimator=with_factors(text))
    assert doubled.decode_wh == pytest.approx(compiled().decode_wh * 2.0 / 1.6)
    assert doubled.factors != compiled().factors


def test_market_based_stands_beside() -> None:
    text = (
        '[[places]]\nscope = "region"\nkey = "aws:us-west-2"\nquantity = "intensity"\n'
        'basis = "market"\nvalue = 10\nunit = "gCO2e/kWh"\n'
        'source = "s"\ndate = "d"\nlicence = "l"\n'
    )
    one = compiled(estimator=with_factors(text))
    assert one.market_g_per_wh == 0.01
    assert one.carbon_g_per_wh == compiled().carbon_g_per_wh
