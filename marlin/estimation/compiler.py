"""Compiles a model on a load in a place into the coefficients of one event."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.estimation.catalogue import ModelSpec
from marlin.estimation.coefficients import Coefficients
from marlin.estimation.factorset import FactorSet
from marlin.estimation.hardware import Accelerator, OperatingPoint, Precision, find_accelerator
from marlin.estimation.places import Place
from marlin.estimation.ranges import combine
from marlin.estimation.roofline import (
    KV_BYTES,
    Served,
    accelerator_seconds,
    gpu_count,
    kv_elements,
    layer_count,
    token_energy_j,
)

__all__ = ["METHOD", "Load", "assume_load", "compile_coefficients", "serve"]

METHOD = "marlin-roofline-1"
J_PER_WH = 3600.0
REFERENCE_CALL = (1000.0, 500.0)
"""Input and output of the call by which the ends of the range are compared [tokens]."""


@dataclass(frozen=True, slots=True)
class Load:
    """An operating point with every gap filled."""

    accelerator: Accelerator
    gpus: int | None
    """None: as many as hold the model."""
    precision: Precision
    batch: float
    batch_low: float
    """Batch at the low end of the energy: the larger one."""
    batch_high: float
    codes: tuple[str, ...]


def assume_load(
    spec: ModelSpec, provider: str, point: OperatingPoint | None, factor_set: FactorSet
) -> Load:
    """Fill what the operating point leaves open; codes name each assumption."""
    point = point or OperatingPoint()
    codes: list[str] = []
    accelerator = None
    if point.hardware is not None:
        accelerator = find_accelerator(point.hardware, dict(factor_set.accelerators))
        if accelerator is None:
            codes.append("hardware_unknown")
    else:
        codes.append("hardware_assumed")
    precision = Precision.named(point.precision) if point.precision else None
    if precision is None:
        codes.append("precision_assumed")
        precision = Precision.named(spec.precision)
        assert precision is not None, "ModelSpec checks its precision"
    if point.batch is not None:
        batch = batch_low = batch_high = float(point.batch)
    else:
        factor = factor_set.factor(_serving_class(provider, spec.kind))
        batch, batch_low, batch_high = factor.value, factor.low, factor.high
        codes.append(factor.name)
    return Load(
        accelerator or factor_set.accelerators["H100"],
        point.gpus,
        precision,
        batch,
        batch_low,
        batch_high,
        tuple(codes),
    )


def _serving_class(provider: str, kind: str) -> str:
    if not provider.strip() and kind != "closed":
        return "batch_unknown"
    name = provider.strip().lower().replace("_", "-")
    if any(word in name for word in ("self-hosted", "ollama", "vllm", "local", "sglang", "tgi")):
        return "batch_self_hosted"
    return "batch_batch_api" if name.endswith("batch") else "batch_api"


def serve(spec: ModelSpec, load: Load, batch: float, scale: float, headroom: float) -> Served:
    """The model's numbers in SI units under `load` at `batch`, its size times `scale`."""
    active_b, total_b = spec.active_params_b * scale, spec.total_b * scale
    accelerator, precision = load.accelerator, load.precision
    gpus = load.gpus or gpu_count(
        total_b * precision.bytes_per_parameter, accelerator.memory_gb, headroom
    )
    elements = kv_elements(active_b) if spec.kv_elements is None else spec.kv_elements
    share = spec.expert_share
    if share is None:
        share = active_b / total_b if spec.is_moe else 1.0
    return Served(
        active=active_b * 1e9,
        total=total_b * 1e9,
        expert_share=share,
        layers=layer_count(active_b, total_b) if spec.layers is None else spec.layers,
        weight_bytes=precision.bytes_per_parameter,
        kv_bytes=elements * KV_BYTES,
        state_bytes=spec.state_elements * KV_BYTES,
        attention_width=2 * elements if spec.attention_width is None else spec.attention_width,
        gpus=gpus,
        batch=batch,
        bandwidth=accelerator.bandwidth_gb_s * 1e9,
        flops=accelerator.flops(precision),
        flops_16=accelerator.tflops_16 * 1e12,
        tdp_w=accelerator.tdp_w,
    )


def _spreads(
    spec: ModelSpec, load: Load, central: float, factor_set: FactorSet, codes: tuple[str, ...]
) -> tuple[float, float]:
    """Low and high multipliers of the accelerators' energy, each factor in quadrature."""
    constants, headroom = factor_set.roofline(), factor_set.value("memory_headroom")

    def ratio(batch: float, scale: float) -> float:
        served = serve(spec, load, batch, scale, headroom)
        return token_energy_j(served, constants).of_call(*REFERENCE_CALL) / central

    shared = [factor_set.value("spread_energy_model")]
    if {"hardware_assumed", "hardware_unknown", "precision_assumed"} & {*load.codes}:
        shared.append(factor_set.value("spread_hardware"))
    for code in ("model_size_from_name", "model_family"):
        if code in codes:
            shared.append(factor_set.value(f"spread_{code}"))
    low = [*shared, ratio(load.batch_low, 1.0), ratio(load.batch, spec.params_low)]
    high = [*shared, ratio(load.batch_high, 1.0), ratio(load.batch, spec.params_high)]
    return 1 / combine(low), combine(high)


def _widen(low: float, high: float, *spreads: float) -> tuple[float, float]:
    spread = combine(spreads)
    return 1 / combine((1 / low, spread)), combine((high, spread))


def embodied_g_per_gpu_hour(factor_set: FactorSet) -> float:
    """Cradle-to-gate emissions per hour in use [gCO2e/h]: mass over active life."""
    hours = factor_set.value("embodied_life_years") * 8760
    return factor_set.value("embodied_gpu_g") / (hours * factor_set.value("embodied_active_share"))


def compile_coefficients(
    spec: ModelSpec,
    model_codes: tuple[str, ...],
    load: Load,
    place: Place,
    factor_set: FactorSet,
) -> Coefficients:
    """The coefficients of one key. Pure; a few hundred float operations."""
    constants = factor_set.roofline()
    headroom = factor_set.value("memory_headroom")
    served = serve(spec, load, load.batch, 1.0, headroom)
    energy = token_energy_j(served, constants)
    reference_j = energy.of_call(*REFERENCE_CALL)
    gpu_low, gpu_high = _spreads(spec, load, reference_j, factor_set, model_codes)
    host, pue = factor_set.value("host_overhead"), place.pue.value
    to_wh = host * pue / J_PER_WH
    gpu_share = 1 / (host * pue)
    pue_spread = "region" if place.pue.scope == "region" else "fleet"
    energy_low, energy_high = _widen(
        gpu_low,
        gpu_high,
        factor_set.value("spread_host_overhead"),
        factor_set.value(f"spread_pue_{pue_spread}"),
    )
    intensity_spread = factor_set.value(f"spread_intensity_{place.intensity.scope}")
    carbon_low, carbon_high = _widen(energy_low, energy_high, intensity_spread)
    power_w = reference_j / accelerator_seconds(served, constants).of_call(*REFERENCE_CALL)
    embodied_low, embodied_high = _embodied_range(gpu_low, gpu_high, factor_set)
    water, water_low, water_high = _water(place, host, energy_low, energy_high, factor_set)
    return Coefficients(
        prefill_wh=energy.prefill * to_wh,
        prefill_attention_wh=energy.attention * to_wh,
        cached_wh=energy.prefill * to_wh * factor_set.value("cached_input_share"),
        decode_wh=energy.decode * to_wh,
        context_wh=energy.context * to_wh,
        carbon_g_per_wh=place.intensity.value / 1000,
        embodied_g_per_wh=gpu_share / power_w * embodied_g_per_gpu_hour(factor_set),
        water_ml_per_wh=water,
        gpu_share=gpu_share,
        energy_low=energy_low,
        energy_high=energy_high,
        carbon_low=carbon_low,
        carbon_high=carbon_high,
        embodied_low=embodied_low,
        embodied_high=embodied_high,
        water_low=water_low,
        water_high=water_high,
        gpu_low=gpu_low,
        gpu_high=gpu_high,
        intensity_g_per_kwh=place.intensity.value,
        method=METHOD,
        factors=factor_set.version,
        codes=(*model_codes, *load.codes, *place.codes),
    )


def _embodied_range(low: float, high: float, factor_set: FactorSet) -> tuple[float, float]:
    mass = factor_set.factor("embodied_gpu_g")
    life = factor_set.factor("embodied_life_years")
    active = factor_set.factor("embodied_active_share")
    return (
        1
        / combine(
            (1 / low, mass.value / mass.low, life.high / life.value, active.high / active.value)
        ),
        combine((high, mass.high / mass.value, life.value / life.low, active.value / active.low)),
    )


def _water(
    place: Place, host: float, energy_low: float, energy_high: float, factor_set: FactorSet
) -> tuple[float, float, float]:
    """Consumption per data-centre energy [mL/Wh] with its multipliers.

    Only consumption is added to consumption. Where the operator publishes withdrawal (or no
    basis), on-site consumption is unknown between nothing and that value: it is left out of the
    central value and counted in full at the high end.
    """
    offsite = place.offsite_water.value
    spread_off = factor_set.value(
        "spread_ewif_world" if place.offsite_water.scope == "world" else "spread_ewif"
    )
    onsite = 0.0 if place.onsite_water is None else place.onsite_water.value / place.pue.value
    counted = place.onsite_water is not None and place.onsite_water.basis == "consumption"
    central = offsite + (onsite if counted else 0.0)
    if counted:
        assert place.onsite_water is not None
        spread_on = factor_set.value(
            "spread_wue_region" if place.onsite_water.scope == "region" else "spread_wue_fleet"
        )
        high = offsite * spread_off + onsite * spread_on
        low = offsite / spread_off + onsite / spread_on
    else:
        high, low = offsite * spread_off + onsite, offsite / spread_off
    return (
        central,
        1 / combine((1 / energy_low, central / low)),
        combine((energy_high, high / central)),
    )
