"""Energy of one token on accelerators: a roofline with fitted efficiencies.

One physical quantity per function, all pure. Time is the sum of what each resource needs, and
energy is that time at the share of the rated power (TDP) which each resource draws. The fitted
constants and the error they leave are in `data/fit.csv`; `tools/fit_energy.py` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

__all__ = [
    "Roofline",
    "Served",
    "attention_energy_j",
    "compute_time_s",
    "context_energy_j",
    "decode_energy_j",
    "gpu_count",
    "kv_elements",
    "overhead_time_s",
    "prefill_energy_j",
    "state_time_s",
    "touched_parameters",
    "weight_time_s",
]

KV_BYTES = 2.0
"""Bytes per number kept of the context [B]: 16 bit, the default of vLLM, SGLang, TensorRT-LLM."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """The fitted constants; see `data/fit.csv` for each one's range and meaning."""

    memory_efficiency: float
    compute_efficiency: float
    prefill_efficiency: float
    step_overhead_s: float
    step_overhead_per_doubling_s: float
    idle_power_share: float
    memory_power_share: float
    compute_power_share: float


@dataclass(frozen=True, slots=True)
class Served:
    """A model on hardware under load: everything the equations take, in SI units."""

    active: float
    """Parameters used per token [count]."""
    total: float
    """Parameters stored [count]."""
    expert_share: float
    """Routed experts used per token over those stored [1]; 1 for a dense model."""
    weight_bytes: float
    """Bytes per parameter [B]."""
    kv_bytes: float
    """Bytes kept per token of context [B]."""
    state_bytes: float
    """Recurrent state per sequence [B]."""
    attention_width: float
    """Sum over attention layers of heads x head size [count]."""
    gpus: int
    batch: float
    bandwidth: float
    """Memory bandwidth of one accelerator [B/s]."""
    flops: float
    """Peak dense rate of one accelerator at the weights' precision [FLOP/s]."""
    flops_16: float
    """The same at 16 bit, in which attention runs [FLOP/s]."""
    tdp_w: float


def gpu_count(weight_gb: float, memory_gb: float, headroom: float) -> int:
    """Smallest power of two of accelerators that hold `headroom` x the weights [count].

    Source: EcoLogits methodology (2026): 1.2 x weight bytes, power-of-two tensor parallelism.
    """
    return int(2 ** ceil(log2(max(1.0, headroom * weight_gb / memory_gb))))


def kv_elements(active_b: float) -> float:
    """Numbers kept per token of context where the shape is unknown [count].

    65 536 at 8 x 10^9 active parameters (Llama 3.1 8B), growing with the size to the 0.4.
    """
    return 65_536 * float((active_b / 8) ** 0.4)


def touched_parameters(served: Served) -> float:
    """Parameters read in one decode step [count].

    A dense model reads all of them. Of a mixture of experts, the shared part is read always, and
    each routed expert unless all `batch` sequences miss it: 1 - (1 - share)^batch.
    """
    share = served.expert_share
    if share >= 1:
        return served.total
    shared = max(0.0, (served.active - share * served.total) / (1 - share))
    return shared + (served.total - shared) * (1 - float((1 - share) ** served.batch))


def weight_time_s(served: Served, constants: Roofline) -> float:
    """Time of one decode step to read the weights, over all accelerators [s]."""
    read = touched_parameters(served) * served.weight_bytes
    return read / (served.gpus * served.bandwidth * constants.memory_efficiency)


def state_time_s(served: Served, constants: Roofline) -> float:
    """Time of one decode step to read and write the sequences' recurrent state [s]."""
    moved = 2 * served.state_bytes * served.batch
    return moved / (served.gpus * served.bandwidth * constants.memory_efficiency)


def compute_time_s(served: Served, constants: Roofline) -> float:
    """Time of one decode step to multiply: 2 FLOP per active parameter and sequence [s]."""
    work = 2 * served.active * served.batch
    return work / (served.gpus * served.flops * constants.compute_efficiency)


def overhead_time_s(served: Served, constants: Roofline) -> float:
    """Time of one decode step in which accelerators wait: launches, scheduling, collectives [s]."""
    return constants.step_overhead_s + constants.step_overhead_per_doubling_s * log2(served.gpus)


def decode_energy_j(served: Served, constants: Roofline) -> float:
    """Energy per output token at an empty context [J]: a step's energy over its sequences."""
    memory_s = weight_time_s(served, constants) + state_time_s(served, constants)
    power_time = (
        constants.idle_power_share * overhead_time_s(served, constants)
        + constants.memory_power_share * memory_s
        + constants.compute_power_share * compute_time_s(served, constants)
    )
    return served.gpus * served.tdp_w * power_time / served.batch


def context_energy_j(served: Served, constants: Roofline) -> float:
    """Energy per output token and token of context [J]: reading that token's keys and values."""
    read_s = served.kv_bytes / (served.bandwidth * constants.memory_efficiency)
    return served.tdp_w * constants.memory_power_share * read_s


def prefill_energy_j(served: Served, constants: Roofline) -> float:
    """Energy per fresh input token, attention apart [J]; the accelerator count cancels."""
    work_s = 2 * served.active / (served.flops * constants.prefill_efficiency)
    return served.tdp_w * constants.compute_power_share * work_s


def attention_energy_j(served: Served, constants: Roofline) -> float:
    """Energy per fresh input token and token of context before it [J].

    Two multiplications of `attention_width` numbers, 2 FLOP each; summed over a prompt of N tokens
    this grows with N^2 / 2 and overtakes the linear part at some ten thousand tokens.
    """
    work_s = 4 * served.attention_width / (served.flops_16 * constants.prefill_efficiency)
    return served.tdp_w * constants.compute_power_share * work_s
