"""The equations, one by one, with numbers worked out by hand and with units that must agree."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from marlin.estimation.roofline import (
    Roofline,
    Served,
    TokenCost,
    accelerator_seconds,
    attention_s,
    compute_s,
    context_s,
    expert_efficiency,
    gpu_count,
    kv_elements,
    layer_count,
    layers_s,
    prefill_s,
    sequences_s,
    token_energy_j,
    touched_parameters,
    weights_s,
)

HALF = Roofline(
    memory_efficiency=0.5,
    narrow_expert_efficiency=0.5,
    compute_efficiency=0.25,
    prefill_efficiency=0.5,
    layer_overhead_s=1e-4,
    layer_overhead_per_doubling_s=2e-5,
    sequence_overhead_s=5e-5,
    idle_power_share=0.4,
    sequence_power_share=0.7,
    memory_power_share=0.6,
    compute_power_share=1.0,
)
DENSE = Served(
    active=10e9,
    total=10e9,
    expert_share=1.0,
    layers=40,
    weight_bytes=2.0,
    kv_bytes=160_000,
    state_bytes=0.0,
    attention_width=200_000,
    gpus=2,
    batch=100,
    bandwidth=4e12,
    flops=1e15,
    flops_16=1e15,
    tdp_w=500,
)
MOE = replace(DENSE, active=10e9, total=100e9, expert_share=0.05)


@pytest.mark.parametrize(
    ("weight_gb", "count"), [(1, 1), (66.6, 1), (66.7, 2), (133.4, 4), (533, 8), (0.001, 1)]
)
def test_as_many_accelerators_as_hold_the_weights(weight_gb: float, count: int) -> None:
    assert gpu_count(weight_gb, memory_gb=80, headroom=1.2) == count


def test_a_dense_model_reads_everything() -> None:
    assert touched_parameters(DENSE) == 10e9


def test_experts_are_shared_by_the_batch() -> None:
    # Shared part (10 - 0.05 x 100) / 0.95 = 5.263; alone a sequence reads its active parameters.
    assert touched_parameters(replace(MOE, batch=1)) == pytest.approx(10e9)
    two = 5.2631578947e9 + 94.7368421053e9 * (1 - 0.95**2)
    assert touched_parameters(replace(MOE, batch=2)) == pytest.approx(two)
    assert touched_parameters(replace(MOE, batch=10_000)) == pytest.approx(100e9)


def test_weights_take_bytes_over_bandwidth() -> None:
    # 20 GB over 2 x 4 TB/s at half efficiency.
    assert weights_s(DENSE, HALF) == pytest.approx(20e9 / 4e12)


def test_state_is_read_and_written_by_each_sequence() -> None:
    with_state = replace(DENSE, state_bytes=1e8)
    # 2 x 0.1 GB x 100 sequences on top of 20 GB.
    assert weights_s(with_state, HALF) == pytest.approx(40e9 / 4e12)


@pytest.mark.parametrize(
    ("served", "efficiency"),
    [
        (DENSE, 1.0),
        (replace(DENSE, weight_bytes=1.0), 1.0),
        (MOE, 1.0),
        (replace(MOE, weight_bytes=1.0), 0.5),
        (replace(MOE, weight_bytes=0.55), 0.5),
    ],
)
def test_only_narrow_experts_are_slower(served: Served, efficiency: float) -> None:
    assert expert_efficiency(served, HALF) == efficiency


def test_decode_multiplies_active_parameters() -> None:
    # 2 x 10e9 x 100 FLOP at 2 x 1e15 x 0.25.
    assert compute_s(DENSE, HALF) == pytest.approx(2e12 / 5e14)


def test_layers_wait_longer_across_accelerators() -> None:
    assert layers_s(replace(DENSE, gpus=1), HALF) == pytest.approx(40 * 1e-4)
    assert layers_s(replace(DENSE, gpus=8), HALF) == pytest.approx(40 * 1.6e-4)


def test_schedulers_work_beside_each_other_beyond_a_node() -> None:
    assert sequences_s(replace(DENSE, gpus=8), HALF) == pytest.approx(5e-3)
    assert sequences_s(replace(DENSE, gpus=72), HALF) == pytest.approx(5e-3 / 9)


def test_context_prefill_and_attention_times() -> None:
    assert context_s(DENSE, HALF) == pytest.approx(160_000 / 2e12)
    assert prefill_s(DENSE, HALF) == pytest.approx(20e9 / 5e14)
    assert attention_s(DENSE, HALF) == pytest.approx(800_000 / 5e14)


def test_energy_is_each_time_at_its_power() -> None:
    cost = token_energy_j(DENSE, HALF)
    layers, sequences, weights, compute = 40 * 1.2e-4, 5e-3, 5e-3, 4e-3
    step = 0.4 * layers + 0.7 * sequences + 0.6 * weights + 1.0 * compute
    assert cost.decode == pytest.approx(2 * 500 * step / 100)
    assert cost.prefill == pytest.approx(500 * 20e9 / 5e14)
    assert cost.attention == pytest.approx(500 * 800_000 / 5e14)
    assert cost.context == pytest.approx(500 * 0.6 * 160_000 / 2e12)


def test_time_is_energy_at_one_watt() -> None:
    seconds = accelerator_seconds(DENSE, HALF)
    layers, sequences, weights, compute = 40 * 1.2e-4, 5e-3, 5e-3, 4e-3
    assert seconds.decode == pytest.approx(2 * (layers + sequences + weights + compute) / 100)
    assert seconds.prefill == pytest.approx(20e9 / 5e14)


def test_a_call_sums_its_tokens() -> None:
    cost = TokenCost(prefill=2.0, attention=0.1, decode=3.0, context=0.01)
    # 10 x (2 + 0.1 x 5) + 4 x (3 + 0.01 x (10 + 2)).
    assert cost.of_call(10, 4) == pytest.approx(25 + 12.48)


def test_shapes_by_power_law() -> None:
    assert kv_elements(8) == 65_536
    assert layer_count(8, 8) == 32
    # Within a factor of 1.5 of Llama 3.1 70B and 405B and of DeepSeek V3.
    for active, total, layers in ((70.6, 70.6, 80), (405.9, 405.9, 126), (37.5, 671, 61)):
        assert 1 / 1.5 < layer_count(active, total) / layers < 1.5


class Quantity:
    """A number with units: products combine them, sums of unlike units raise."""

    def __init__(self, value: float, **units: int) -> None:
        self.value = value
        self.units = {unit: power for unit, power in units.items() if power}

    def __add__(self, other: Any) -> Quantity:
        other = other if isinstance(other, Quantity) else Quantity(other)
        if self.units != other.units and self.value and other.value:
            raise TypeError(f"{self.units} added to {other.units}")
        return Quantity(self.value + other.value, **(self.units or other.units))

    def _combined(self, other: Any, sign: int, value: float) -> Quantity:
        units = dict(self.units)
        for unit, power in (other.units if isinstance(other, Quantity) else {}).items():
            units[unit] = units.get(unit, 0) + sign * power
        return Quantity(value, **units)

    def __mul__(self, other: Any) -> Quantity:
        return self._combined(other, 1, self.value * getattr(other, "value", other))

    def __truediv__(self, other: Any) -> Quantity:
        return self._combined(other, -1, self.value / getattr(other, "value", other))

    def __rmul__(self, other: float) -> Quantity:
        return self * other

    def __radd__(self, other: float) -> Quantity:
        return self + other

    def __neg__(self) -> Quantity:
        return self * -1

    def __sub__(self, other: Any) -> Quantity:
        return self + -other


def with_units() -> tuple[Any, Any]:
    """The dense model and the constants, their fields in units; one parameter is 2 FLOP."""
    served = DENSE
    units: dict[str, dict[str, int]] = {
        "active": {"parameter": 1},
        "total": {"parameter": 1},
        "weight_bytes": {"byte": 1, "parameter": -1},
        "kv_bytes": {"byte": 1},
        "state_bytes": {"byte": 1},
        "attention_width": {"parameter": 1},
        "bandwidth": {"byte": 1, "second": -1},
        "flops": {"parameter": 1, "second": -1},
        "flops_16": {"parameter": 1, "second": -1},
        "tdp_w": {"joule": 1, "second": -1},
    }
    fields: dict[str, Any] = {
        name: Quantity(getattr(served, name), **unit) for name, unit in units.items()
    }
    constants: dict[str, Any] = {
        name: Quantity(getattr(HALF, name), second=1)
        for name in (
            "layer_overhead_s",
            "layer_overhead_per_doubling_s",
            "sequence_overhead_s",
        )
    }
    return replace(served, **fields), replace(HALF, **constants)


def test_units_agree_down_to_joules() -> None:
    served, constants = with_units()
    cost: Any = token_energy_j(served, constants)
    plain = token_energy_j(DENSE, HALF)
    for name in ("prefill", "attention", "decode", "context"):
        found = getattr(cost, name)
        assert found.units == {"joule": 1}, name
        assert math.isclose(found.value, getattr(plain, name))


def test_the_unit_check_would_notice() -> None:
    with pytest.raises(TypeError, match="added to"):
        _ = Quantity(1.0, joule=1) + Quantity(1.0, second=1)
