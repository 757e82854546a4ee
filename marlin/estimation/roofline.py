"""Energy of one token on accelerators: a roofline with fitted efficiencies.

One physical quantity per function, all pure. Time is the sum of what each resource needs, and
energy is that time at the share of the rated power (TDP) which each resource draws. The fitted
constants and the error they leave are in `data/fit.csv`; `tools/fit_energy.py` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, log2

__all__ = [
    "KV_BYTES",
    "Roofline",
    "Served",
    "TokenCost",
    "accelerator_seconds",
    "attention_s",
    "compute_s",
    "context_s",
    "expert_efficiency",
    "gpu_count",
    "kv_elements",
    "layer_count",
    "layers_s",
    "prefill_s",
    "sequences_s",
    "token_energy_j",
    "touched_parameters",
    "weights_s",
]

KV_BYTES = 2.0
"""Bytes per number kept of the context [B]: 16 bit, the default of vLLM, SGLang, TensorRT-LLM."""

ENGINE_GPUS = 8
"""Accelerators behind one scheduler [count]: a node. Wider deployments run several in parallel."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """The fitted constants; see `data/fit.csv` for each one's range and meaning."""

    memory_efficiency: float
    """Share of the memory bandwidth achieved [1]."""
    narrow_expert_efficiency: float
    """What experts of 8 bits or less reach of it, and of `prefill_efficiency` [1]."""
    compute_efficiency: float
    """Share of the peak FLOP rate achieved in decode [1]."""
    prefill_efficiency: float
    """Share of the peak FLOP rate achieved in prefill [1]."""
    layer_overhead_s: float
    """Waiting per layer of a decode step: kernel launches, synchronisation [s]."""
    layer_overhead_per_doubling_s: float
    """Added per layer and doubling of the accelerators: collectives [s]."""
    sequence_overhead_s: float
    """Time per sequence of a decode step that no bandwidth or FLOP explains: scheduling, sampling,
    detokenising [s]."""
    idle_power_share: float
    """Share of the TDP drawn while waiting on layers [1]."""
    sequence_power_share: float
    """Share of the TDP drawn while sequences are scheduled [1]."""
    memory_power_share: float
    """Share of the TDP drawn while reading memory [1]."""
    compute_power_share: float
    """Share of the TDP drawn while multiplying [1]."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model on hardware under load: everything the equations take, in SI units."""

    active: float
    """Parameters used per token [count]."""
    total: float
    """Parameters stored [count]."""
    expert_share: float
    """Routed experts used per token over those stored [1]; 1 for a dense model."""
    layers: float
    """Blocks that run one after the other [count]."""
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
    """Sequences decoded together [count]."""
    bandwidth: float
    """Memory bandwidth of one accelerator [B/s]."""
    flops: float
    """Peak dense rate of one accelerator at the weights' precision [FLOP/s]."""
    flops_16: float
    """The same at 16 bit, in which attention runs [FLOP/s]."""
    tdp_w: float


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What tokens cost, in J of accelerator energy or in s of accelerator time."""

    prefill: float
    """Per fresh input token."""
    attention: float
    """Per fresh input token and token of context before it."""
    decode: float
    """Per output token at an empty context."""
    context: float
    """Per output token and token of context."""

    def of_call(self, input_tokens: float, output_tokens: float) -> float:
        """Cost of one call without cached input."""
        return input_tokens * (self.prefill + self.attention * input_tokens / 2) + output_tokens * (
            self.decode + self.context * (input_tokens + output_tokens / 2)
        )


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


def layer_count(active_b: float, total_b: float) -> float:
    """Layers where the shape is unknown [count].

    32 at 8 x 10^9 parameters, growing with the mean of active and total size to the 0.3; within a
    factor of 1.5 of the published models from 8B to 671B.
    """
    return 32 * float(((active_b * total_b) ** 0.5 / 8) ** 0.3)


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


def expert_efficiency(served: Served, constants: Roofline) -> float:
    """What the kernels of experts of 8 bits or less reach of other kernels' efficiency [1]."""
    is_narrow = served.expert_share < 1 and served.weight_bytes <= 1
    return constants.narrow_expert_efficiency if is_narrow else 1.0


def weights_s(served: Served, constants: Roofline) -> float:
    """Time of one decode step to read weights, and to read and write recurrent state [s]."""
    efficiency = constants.memory_efficiency
    state = 2 * served.state_bytes * served.batch
    weights = touched_parameters(served) * served.weight_bytes
    weights /= expert_efficiency(served, constants)
    return (weights + state) / (served.gpus * served.bandwidth * efficiency)


def compute_s(served: Served, constants: Roofline) -> float:
    """Time of one decode step to multiply: 2 FLOP per active parameter and sequence [s]."""
    work = 2 * served.active * served.batch
    return work / (served.gpus * served.flops * constants.compute_efficiency)


def layers_s(served: Served, constants: Roofline) -> float:
    """Waiting time of one decode step, by layer and by doubling of the accelerators [s]."""
    return served.layers * (
        constants.layer_overhead_s + constants.layer_overhead_per_doubling_s * log2(served.gpus)
    )


def sequences_s(served: Served, constants: Roofline) -> float:
    """Time of one decode step spent on the sequences themselves, by scheduler [s]."""
    schedulers = max(1.0, served.gpus / ENGINE_GPUS)
    return constants.sequence_overhead_s * served.batch / schedulers


def context_s(served: Served, constants: Roofline) -> float:
    """Accelerator time per output token and token of context, to read its keys and values [s]."""
    return served.kv_bytes / (served.bandwidth * constants.memory_efficiency)


def prefill_s(served: Served, constants: Roofline) -> float:
    """Accelerator time per fresh input token, attention apart [s]."""
    efficiency = constants.prefill_efficiency * expert_efficiency(served, constants)
    return 2 * served.active / (served.flops * efficiency)


def attention_s(served: Served, constants: Roofline) -> float:
    """Accelerator time per fresh input token and token of context before it [s].

    Two multiplications of `attention_width` numbers, 2 FLOP each. Over a prompt of N tokens this
    sums to N^2 / 2 and overtakes the linear part at some ten thousand tokens.
    """
    return 4 * served.attention_width / (served.flops_16 * constants.prefill_efficiency)


def token_energy_j(served: Served, constants: Roofline) -> TokenCost:
    """Accelerator energy of tokens [J]: each time at the power share of what it waits for."""
    step_j = (
        constants.idle_power_share * layers_s(served, constants)
        + constants.sequence_power_share * sequences_s(served, constants)
        + constants.memory_power_share * weights_s(served, constants)
        + constants.compute_power_share * compute_s(served, constants)
    ) * (served.gpus * served.tdp_w)
    compute_w = served.tdp_w * constants.compute_power_share
    return TokenCost(
        prefill=compute_w * prefill_s(served, constants),
        attention=compute_w * attention_s(served, constants),
        decode=step_j / served.batch,
        context=served.tdp_w * constants.memory_power_share * context_s(served, constants),
    )


def accelerator_seconds(served: Served, constants: Roofline) -> TokenCost:
    """Accelerator time of tokens [s]: the energy if every second drew one watt."""
    one_watt = replace(
        constants,
        idle_power_share=1.0,
        sequence_power_share=1.0,
        memory_power_share=1.0,
        compute_power_share=1.0,
    )
    return token_energy_j(replace(served, tdp_w=1.0), one_watt)
