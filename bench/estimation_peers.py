"""What EcoLogits and ecocost say of the same calls. Runs in their own environment.

Reads a JSON list of calls on stdin, writes a JSON list of answers on stdout; each answer has the
accelerators' energy and the data centre's energy [Wh] by peer, or null where the peer has none.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from typing import Any

from ecocost import calc
from ecocost.loader import get_kb
from ecologits.impacts import llm

ECOLOGITS_PUE = 1.2
"""The library's own value for OpenAI; its widest provider range is 1.09-1.20."""


def ecologits_wh(call: dict[str, Any], *, batch: float, gpus: int | None) -> tuple[float, float]:
    """Accelerator and data-centre energy [Wh] by the library's own functions and constants."""
    memory_gb = 1.2 * call["total_params_b"] * llm.MODEL_QUANTIZATION_BITS / 8
    count = gpus or 2 ** math.ceil(math.log2(max(1.0, memory_gb / llm.GPU_MEMORY)))
    per_token_wh = (
        llm.GPU_ENERGY_ALPHA * math.exp(llm.GPU_ENERGY_BETA * batch) * call["active_params_b"]
        + llm.GPU_ENERGY_GAMMA
    )
    gpu_wh = per_token_wh * call["output_tokens"] * count
    latency_s = call["output_tokens"] * (
        llm.LATENCY_ALPHA * call["active_params_b"] + llm.LATENCY_BETA * batch + llm.LATENCY_GAMMA
    )
    host_wh = latency_s / 3600 * llm.SERVER_POWER * 1000 * count / llm.SERVER_GPUS / batch
    return gpu_wh, (gpu_wh + host_wh) * ECOLOGITS_PUE


def ecocost_wh(call: dict[str, Any]) -> tuple[float, float]:
    """Accelerator and data-centre energy [Wh] on the library's FLOP path.

    Its measured path would be a copy of the rows judged here, so the record is taken without it.
    """
    base = get_kb()
    model = next(iter(base.models.values()))
    size = call["active_params_b"]
    parameters = dataclasses.replace(model.active_params_b, value=size, min=size, max=size)
    model = dataclasses.replace(
        model,
        active_params_b=parameters,
        total_params_b=call["total_params_b"],
        measured_wh_per_1k_output_tokens_h100=None,
    )
    provider = base.resolve_provider(None, model=model)[0]
    reference = base.hardware[calc.REFERENCE_HARDWARE_ID]
    wanted = (call["hardware"] or "").lower()
    hardware = next((base.hardware[k] for k in base.hardware if wanted and wanted in k), reference)
    answer = calc.estimate(
        model,
        provider,
        next(iter(base.regions.values())),
        hardware,
        reference,
        input_tokens=round(call["input_tokens"]),
        output_tokens=round(call["output_tokens"]),
    )
    gpu_wh = answer.h100_seconds.mid * calc.H100_TDP_W / 3600 * hardware.energy_vs_h100.value
    return gpu_wh, answer.energy_wh.mid


def main() -> None:
    """Answer every call on stdin."""
    answers = []
    for call in json.load(sys.stdin):
        if call["active_params_b"] is None:
            answers.append(None)
            continue
        known = call["batch"] or 64
        answers.append(
            {
                "EcoLogits": ecologits_wh(call, batch=llm.BATCH_SIZE, gpus=None),
                "EcoLogits, true batch": ecologits_wh(call, batch=known, gpus=call["gpus"]),
                "ecocost": ecocost_wh(call),
            }
        )
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
