"""Compiles a model on a load in a place into the coefficients of one event."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.estimation.catalogue import ModelSpec
from marlin.estimation.coefficients import Coefficients
from marlin.estimation.factors import Factor
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
    if point.gpus is None:
        codes.append("gpus_assumed")
    precision = Precision.named(point.precision) if point.precision else None
    if precision is None:
        codes.append("precision_unknown" if point.precision else "precision_assumed")
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


_OWN_SERVERS = ("self-hosted", "ollama", "vllm", "local", "sglang", "tgi", "llamacpp", "mistral")
"""Providers whose servers are lightly loaded. Mistral's is not a guess: its life-cycle assessment
(1.14 gCO2e per 400 tokens of Mistral Large) is reached only with few sequences at a time."""


def _serving_class(provider: str, kind: str) -> str:
    if not provider.strip() and kind != "closed":
        return "batch_unknown"
    name = provider.strip().lower().replace("_", "-")
    if any(word in name for word in _OWN_SERVERS):
        return "batch_self_hosted"
    if name.endswith("batch"):
        return "batch_batch_api"
    return "batch_commercial" if kind == "closed" else "batch_api"


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
        attention_width=4 * elements if spec.attention_width is None else spec.attention_width,
        gpus=gpus,
        batch=batch,
        bandwidth=accelerator.bandwidth_gb_s * 1e9,
        flops=accelerator.flops(precision),
        flops_16=accelerator.tflops_16 * 1e12,
        tdp_w=accelerator.tdp_w,
    )


_HARDWARE_CODES = {
    "hardware_assumed",
    "hardware_unknown",
    "precision_assumed",
    "precision_unknown",
}


def _spreads(
    spec: ModelSpec, load: Load, central: float, factor_set: FactorSet, codes: tuple[str, ...]
) -> tuple[float, float]:
    """Low and high multipliers of the accelerators' energy, each factor in quadrature."""
    constants, headroom = factor_set.roofline(), factor_set.value("memory_headroom")

    def ratio(batch: float, scale: float) -> float:
        served = serve(spec, load, batch, scale, headroom)
        return token_energy_j(served, constants).of_call(*REFERENCE_CALL) / central

    shared = [factor_set.value("spread_energy_model")]
    if _HARDWARE_CODES & {*load.codes}:
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


def active_share(load: Load, factor_set: FactorSet) -> Factor:
    """Share of their life for which the accelerators of this load serve [1]."""
    own = "batch_self_hosted" in load.codes
    return factor_set.factor("embodied_active_share_own" if own else "embodied_active_share")


def embodied_g_per_gpu_hour(factor_set: FactorSet, active: Factor) -> float:
    """Cradle-to-gate emissions per hour in use [gCO2e/h]: mass over active life."""
    hours = factor_set.value("embodied_life_years") * 8760
    return factor_set.value("embodied_gpu_g") / (hours * active.value)


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
    active = active_share(load, factor_set)
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
    embodied_low, embodied_high = _embodied_range(gpu_low, gpu_high, active, factor_set)
    water = _water(place, energy_low, energy_high, factor_set)
    market = place.market_intensity
    return Coefficients(
        prefill_wh=energy.prefill * to_wh,
        prefill_attention_wh=energy.attention * to_wh,
        cached_wh=energy.prefill * to_wh * factor_set.value("cached_input_share"),
        decode_wh=energy.decode * to_wh,
        context_wh=energy.context * to_wh,
        carbon_g_per_wh=place.intensity.value / 1000,
        embodied_g_per_wh=gpu_share / power_w * embodied_g_per_gpu_hour(factor_set, active),
        water_ml_per_wh=water.total,
        water_offsite_ml_per_wh=water.offsite,
        water_onsite_ml_per_wh=water.onsite,
        water_onsite_basis=water.basis,
        market_g_per_wh=None if market is None else market.value / 1000,
        gpu_share=gpu_share,
        energy_low=energy_low,
        energy_high=energy_high,
        carbon_low=carbon_low,
        carbon_high=carbon_high,
        embodied_low=embodied_low,
        embodied_high=embodied_high,
        water_low=water.total_range[0],
        water_high=water.total_range[1],
        water_offsite_low=water.offsite_range[0],
        water_offsite_high=water.offsite_range[1],
        water_onsite_low=water.onsite_range[0],
        water_onsite_high=water.onsite_range[1],
        gpu_low=gpu_low,
        gpu_high=gpu_high,
        intensity_g_per_kwh=place.intensity.value,
        method=METHOD,
        factors=factor_set.version,
        codes=(*model_codes, *load.codes, *place.codes),
    )


def _embodied_range(
    low: float, high: float, active: Factor, factor_set: FactorSet
) -> tuple[float, float]:
    mass = factor_set.factor("embodied_gpu_g")
    life = factor_set.factor("embodied_life_years")
    return (
        1
        / combine(
            (1 / low, mass.value / mass.low, life.high / life.value, active.high / active.value)
        ),
        combine((high, mass.high / mass.value, life.value / life.low, active.value / active.low)),
    )


@dataclass(frozen=True, slots=True)
class _Water:
    """Water per data-centre energy [mL/Wh] with multipliers (low, high)."""

    total: float
    offsite: float
    onsite: float
    basis: str
    total_range: tuple[float, float]
    offsite_range: tuple[float, float]
    onsite_range: tuple[float, float]


def _water(place: Place, energy_low: float, energy_high: float, factor_set: FactorSet) -> _Water:
    """Off-site and on-site water, and their sum where both are consumption.

    On-site usage counts IT energy, so it is divided by the PUE. Only consumption is added to
    consumption. Where the operator publishes withdrawal (or no basis), on-site consumption lies
    between nothing and that value: the total leaves it out of its central value and takes it in
    full at its high end, with a code. Where nothing is published, the high end takes a ceiling.
    """
    offsite, published = place.offsite_water.value, place.onsite_water
    scale = "spread_ewif_world" if place.offsite_water.scope == "world" else "spread_ewif"
    spread_off, spread_on, onsite, basis = factor_set.value(scale), 1.0, 0.0, "unknown"
    ceiling = factor_set.factor("onsite_water_unknown").high / place.pue.value
    if published is not None:
        onsite, basis = published.value / place.pue.value, published.basis
        ceiling = onsite
        scope = "region" if published.scope == "region" else "fleet"
        spread_on = factor_set.value(f"spread_wue_{scope}")
    counted = onsite if basis == "consumption" else 0.0
    total = offsite + counted
    lowest = (offsite / spread_off + counted / spread_on) / total
    highest = (offsite * spread_off + (counted * spread_on or ceiling)) / total
    return _Water(
        total,
        offsite,
        onsite,
        basis,
        (1 / combine((1 / energy_low, 1 / lowest)), combine((energy_high, highest))),
        _widen(energy_low, energy_high, spread_off),
        _widen(energy_low, energy_high, spread_on),
    )
