"""The whole derivation of one call: each step with its number, unit, source and codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from marlin.estimation.codes import CODES
from marlin.estimation.compiler import active_share, embodied_g_per_gpu_hour, serve
from marlin.estimation.estimator import Estimator, Resolved, default_estimator
from marlin.estimation.factors import Factor
from marlin.estimation.factorset import FactorSet
from marlin.estimation.hardware import OperatingPoint
from marlin.estimation.places import PlaceFactor
from marlin.estimation.results import Estimate, estimate_with
from marlin.estimation.roofline import (
    Roofline,
    Served,
    accelerator_seconds,
    compute_s,
    layers_s,
    sequences_s,
    token_energy_j,
    touched_parameters,
    weights_s,
)
from marlin.estimation.tables import Citation

__all__ = ["Call", "Derivation", "Step", "explain"]

OURS = "equation of marlin.estimation.roofline"


class Call(Protocol):
    """What is read of an event; `marlin.schemas.Usage` and `Carbon` have it."""

    @property
    def model(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def input_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One number of the derivation."""

    part: str
    name: str
    value: float | str
    unit: str
    source: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Derivation:
    """Every step from the call's tokens to its footprint."""

    steps: tuple[Step, ...]
    result: Estimate
    codes: tuple[tuple[str, str], ...]
    """Each reason code with its meaning."""

    def __str__(self) -> str:
        lines = [f"method {self.result.method}, factors {self.result.factors}"]
        part = ""
        for step in self.steps:
            if step.part != part:
                part = step.part
                lines.append(part)
            lines.append(f"  {step.name:34} {_shown(step):>30} {step.unit:12} {step.source}")
        lines.append("assumed" if self.codes else "nothing was assumed")
        lines += [f"  {code:34} {meaning}" for code, meaning in self.codes]
        return "\n".join(lines)


def explain(
    event: Call,
    *,
    estimator: Estimator | None = None,
    operating_point: OperatingPoint | None = None,
) -> Derivation:
    """The derivation of one call, ending in the numbers that `estimate` gives for it."""
    estimator = default_estimator() if estimator is None else estimator
    found = estimator.resolve(
        event.model,
        provider=event.provider,
        region=event.region,
        operating_point=operating_point,
    )
    tokens = (
        event.input_tokens,
        event.cache_read_tokens,
        event.cache_write_tokens,
        event.output_tokens,
    )
    factor_set = estimator.factor_set
    result = estimate_with(found.compile(factor_set), *tokens)
    headroom = factor_set.value("memory_headroom")
    served = serve(found.spec, found.load, found.load.batch, 1.0, headroom)
    constants = factor_set.roofline()
    steps = (
        *_model_steps(event.model, found),
        *_load_steps(found, served, factor_set),
        *_time_steps(served, constants, factor_set),
        *_energy_steps(served, constants, factor_set, tokens),
        *_boundary_steps(found, served, result, factor_set),
        *_result_steps(result),
    )
    return Derivation(steps, result, tuple((code, CODES.get(code, "")) for code in result.codes))


def _model_steps(asked: str, found: Resolved) -> Iterator[Step]:
    part, spec, source = "model", found.spec, _cited(found.spec.citation)
    yield Step(part, "asked for", asked, "", "the call")
    yield Step(part, "taken as", spec.name, "", source)
    yield Step(
        part,
        "active parameters",
        spec.active_params_b,
        "10^9",
        source,
        spec.active_params_b * spec.params_low,
        spec.active_params_b * spec.params_high,
    )
    yield Step(
        part,
        "total parameters",
        spec.total_b,
        "10^9",
        source,
        spec.total_b * spec.params_low,
        spec.total_b * spec.params_high,
    )


def _load_steps(found: Resolved, served: Served, factor_set: FactorSet) -> Iterator[Step]:
    part, load = "load", found.load
    data_sheet = _cited(load.accelerator.citation)
    yield Step(part, "accelerator", load.accelerator.name, "", data_sheet)
    yield Step(part, "rated power", load.accelerator.tdp_w, "W", data_sheet)
    yield Step(part, "memory bandwidth", load.accelerator.bandwidth_gb_s, "GB/s", data_sheet)
    yield Step(part, "peak rate", served.flops / 1e12, "TFLOP/s", data_sheet)
    headroom = factor_set.factor("memory_headroom")
    known = "given" if "gpus_assumed" not in load.codes else _cited(headroom.citation)
    yield Step(part, "accelerators", served.gpus, "count", known)
    yield Step(part, "bytes per parameter", served.weight_bytes, "B", load.precision.name)
    batch_code = next((code for code in load.codes if code.startswith("batch_")), None)
    source = "given" if batch_code is None else _cited(factor_set.factor(batch_code).citation)
    yield Step(part, "batch", load.batch, "count", source, load.batch_high, load.batch_low)


def _time_steps(served: Served, constants: Roofline, factor_set: FactorSet) -> Iterator[Step]:
    part = "one decode step"
    billions = touched_parameters(served) / 1e9
    yield Step(part, "parameters read", billions, "10^9", OURS)
    for name, seconds in (
        ("reading weights and state", weights_s(served, constants)),
        ("multiplying", compute_s(served, constants)),
        ("waiting on layers", layers_s(served, constants)),
        ("scheduling sequences", sequences_s(served, constants)),
    ):
        yield Step(part, name, seconds * 1000, "ms", OURS)
    for name in ("memory_power_share", "compute_power_share", "idle_power_share"):
        yield _factor(part, factor_set.factor(name))


def _energy_steps(
    served: Served, constants: Roofline, factor_set: FactorSet, tokens: tuple[int, int, int, int]
) -> Iterator[Step]:
    part, cost = "accelerator energy", token_energy_j(served, constants)
    fresh, read, output = tokens[0] + tokens[2], tokens[1], tokens[3]
    share = factor_set.factor("cached_input_share")
    yield Step(part, "per fresh input token", cost.prefill, "J", OURS)
    yield Step(part, "per fresh token and context token", cost.attention, "J", OURS)
    yield _factor(part, share)
    yield Step(part, "per output token", cost.decode, "J", OURS)
    yield Step(part, "per output token and context token", cost.context, "J", OURS)
    linear = fresh * cost.prefill
    square = fresh * cost.attention * (read + fresh / 2)
    cached = read * cost.prefill * share.value
    decode = output * (cost.decode + cost.context * (fresh + read + output / 2))
    yield Step(part, "fresh input", linear / 3600, "Wh", f"{fresh} tokens, written ones included")
    yield Step(part, "attention over the prompt", square / 3600, "Wh", "grows with its square")
    yield Step(part, "cached input", cached / 3600, "Wh", f"{read} tokens")
    yield Step(part, "output", decode / 3600, "Wh", f"{output} tokens, reasoning included")


def _boundary_steps(
    found: Resolved, served: Served, result: Estimate, factor_set: FactorSet
) -> Iterator[Step]:
    part, place = "boundary and place", found.place
    yield _factor(part, factor_set.factor("host_overhead"))
    yield _placed(part, "PUE", place.pue)
    yield _placed(part, "grid intensity, location-based", place.intensity)
    if place.market_intensity is not None:
        yield _placed(part, "grid intensity, market-based", place.market_intensity)
    active = active_share(found.load, factor_set)
    rate = embodied_g_per_gpu_hour(factor_set, active)
    constants = factor_set.roofline()
    seconds, joules = accelerator_seconds(served, constants), token_energy_j(served, constants)
    mean_w = joules.decode / seconds.decode
    yield Step(part, "mean power of an accelerator", mean_w, "W", OURS)
    for name in ("embodied_gpu_g", "embodied_life_years", active.name):
        yield _factor(part, factor_set.factor(name))
    yield Step(part, "embodied, per hour in use", rate, "gCO2e/h", OURS)
    yield _placed(part, "off-site water", place.offsite_water)
    if place.onsite_water is not None:
        yield _placed(part, f"on-site water ({result.water_onsite_basis})", place.onsite_water)
    if place.water_stress is not None:
        yield _placed(part, f"water stress: {place.water_stress.note}", place.water_stress)


def _result_steps(result: Estimate) -> Iterator[Step]:
    for name, span, unit in (
        ("accelerators", result.gpu_energy_wh, "Wh"),
        ("energy", result.energy_wh, "Wh"),
        ("carbon, operational", result.carbon_g, "gCO2e"),
        ("carbon, embodied", result.embodied_g, "gCO2e"),
        ("water, consumption", result.water_ml, "mL"),
    ):
        yield Step("result", name, span.central, unit, "", span.low, span.high)


def _factor(part: str, factor: Factor) -> Step:
    low, high = sorted((factor.low, factor.high))
    source = _cited(factor.citation)
    name = factor.name.replace("_", " ")
    return Step(part, name, factor.value, factor.unit, source, low, high)


def _placed(part: str, name: str, row: PlaceFactor) -> Step:
    source = f"{row.key}, {row.basis}: {_cited(row.citation)}"
    return Step(part, name, row.value, row.unit, source)


def _cited(citation: Citation) -> str:
    return f"{citation.source} ({citation.date}, {citation.tier})"


def _shown(step: Step) -> str:
    if isinstance(step.value, str):
        return step.value
    text = f"{step.value:.4g}"
    if step.low is None or step.high is None or step.low == step.high:
        return text
    return f"{text} ({step.low:.4g} to {step.high:.4g})"
