"""Computes `expected.json`: what the estimator must say, worked out without it.

    python tests/reference/generate.py

Reads the factor files as text and follows the equations of `docs/methodology.md` in decimal
arithmetic with 50 digits. It imports nothing of Marlin, so an error in the package is not repeated
here. Run it again whenever a factor changes; a test fails until then.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, getcontext
from pathlib import Path

getcontext().prec = 50

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "marlin" / "estimation" / "data"
FILES = ("fit.csv", "factors.csv", "hardware.csv", "models.csv", "regions.csv", "places.csv")
D = Decimal

BYTES = {"bf16": D(2), "fp8": D(1), "fp4": D("0.55"), "mxfp4": D("0.55")}
UNITS = {"bf16": "tflops_16", "fp8": "tflops_8", "fp4": "tflops_4", "mxfp4": "tflops_4"}


@dataclass(frozen=True)
class Case:
    """One call with everything known but its batch, which may be given."""

    model: str
    cloud: str
    region: str
    hardware: str
    gpus: int
    batch: str
    precision: str
    fresh: int
    read: int
    write: int
    output: int


CASES = (
    Case("llama-3.1-8b", "aws", "us-east-1", "H100", 1, "64", "bf16", 1000, 0, 0, 500),
    Case("llama-3.1-70b", "gcp", "us-west1", "H100", 4, "128", "bf16", 8000, 4000, 100, 700),
    Case("llama-3.1-405b", "azure", "swedencentral", "B200", 8, "32", "bf16", 10, 0, 0, 2000),
    Case("qwen3-235b-a22b", "aws", "eu-west-1", "H100", 8, "16", "fp8", 500, 0, 500, 9000),
    Case("qwen3-30b-a3b", "gcp", "europe-west9", "B200", 1, "511.5", "bf16", 0, 0, 0, 915),
    Case("deepseek-r1", "aws", "ap-southeast-3", "H200", 8, "64", "fp8", 8192, 0, 0, 1024),
    Case("deepseek-r1", "azure", "westus2", "GB200", 72, "2048", "fp8", 8192, 0, 0, 1024),
    Case("nemotron-nano-9b-v2", "gcp", "us-central1", "H100", 1, "96", "bf16", 300, 0, 0, 500),
    Case("gpt-oss-120b", "aws", "eu-north-1", "H100", 1, "256", "mxfp4", 2000, 9000, 0, 800),
    Case("mixtral-8x7b", "gcp", "asia-southeast1", "A100", 2, "8", "bf16", 100_000, 0, 0, 10),
    Case("gemma-3-27b", "azure", "japaneast", "H200", 1, "40", "bf16", 1, 1, 1, 1),
)


def table(name: str) -> list[dict[str, str]]:
    """The rows of a factor file."""
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


CONSTANTS = {row["name"]: D(row["value"]) for row in table("fit.csv") + table("factors.csv")}
MODELS = {row["id"]: row for row in table("models.csv")}
HARDWARE = {row["name"]: row for row in table("hardware.csv")}
REGIONS = {(row["provider"], row["region"]): row for row in table("regions.csv")}
PLACES = {
    (row["scope"], row["key"], row["quantity"], row["basis"]): D(row["value"])
    for row in table("places.csv")
}


def version() -> str:
    """Hash over the content of all factor files."""
    digest = hashlib.blake2b(digest_size=4)
    for name in FILES:
        digest.update(name.encode() + b"\0" + (DATA / name).read_bytes() + b"\0")
    return digest.hexdigest()


def log2(value: int) -> Decimal:
    """Logarithm to the base of two."""
    return D(value).ln() / D(2).ln()


def first(quantity: str, basis: str, *scopes: tuple[str, str]) -> Decimal | None:
    """The value of the first scope that has one."""
    found: Iterator[Decimal] = (
        PLACES[scope, key, quantity, basis]
        for scope, key in scopes
        if (scope, key, quantity, basis) in PLACES
    )
    return next(found, None)


def accelerator_joules(case: Case) -> tuple[Decimal, Decimal]:
    """Energy of the call on accelerators [J]; mean power of one in the reference call [W]."""
    c, model, chip = CONSTANTS, MODELS[case.model], HARDWARE[case.hardware]
    giga = D(10) ** 9
    active, total = D(model["active_params_b"]) * giga, D(model["total_params_b"]) * giga
    batch, gpus, tdp = D(case.batch), D(case.gpus), D(chip["tdp_w"])
    bandwidth = D(chip["bandwidth_gb_s"]) * giga * c["memory_efficiency"]
    tera = D(10) ** 12
    flops, flops_16 = D(chip[UNITS[case.precision]]) * tera, D(chip["tflops_16"]) * tera
    layers = D(model["layers"])
    attention_layers = D(model["attention_layers"] or model["layers"])
    numbers = (
        D(model["kv_elements"])
        if model["kv_elements"]
        else 2 * attention_layers * D(model["kv_heads"]) * D(model["head_dim"])
    )
    width = attention_layers * D(model["heads"]) * D(model["head_dim"])

    read, narrow = total, D(1)
    if model["expert_share"]:
        share = D(model["expert_share"])
        shared = (active - share * total) / (1 - share)
        read = shared + (total - shared) * (1 - (1 - share) ** batch)
        if BYTES[case.precision] <= 1:
            narrow = c["narrow_expert_efficiency"]
    state = D(model["state_elements"] or 0) * 2
    weights_s = (read * BYTES[case.precision] / narrow + 2 * state * batch) / (gpus * bandwidth)
    compute_s = 2 * active * batch / (gpus * flops * c["compute_efficiency"])
    layers_s = layers * (
        c["layer_overhead_s"] + c["layer_overhead_per_doubling_s"] * log2(case.gpus)
    )
    sequences_s = c["sequence_overhead_s"] * batch / max(D(1), gpus / 8)
    context_s = numbers * 2 / bandwidth
    prefill_s = 2 * active / (flops * c["prefill_efficiency"] * narrow)
    attention_s = 4 * width / (flops_16 * c["prefill_efficiency"])

    def call(fresh: Decimal, cached: Decimal, output: Decimal, watts: bool) -> Decimal:
        idle, seq, mem, comp = (
            (c[f"{name}_power_share"] * tdp if watts else D(1))
            for name in ("idle", "sequence", "memory", "compute")
        )
        step = idle * layers_s + seq * sequences_s + mem * weights_s + comp * compute_s
        return (
            fresh * comp * (prefill_s + attention_s * (cached + fresh / 2))
            + cached * comp * prefill_s * c["cached_input_share"]
            + output * (gpus * step / batch + mem * context_s * (fresh + cached + output / 2))
        )

    tokens = (D(case.fresh + case.write), D(case.read), D(case.output))
    reference = (D(1000), D(0), D(500))
    return call(*tokens, watts=True), call(*reference, watts=True) / call(*reference, watts=False)


def expected(case: Case) -> dict[str, object]:
    """Everything the estimate of one case must say."""
    c, place = CONSTANTS, REGIONS[case.cloud, case.region]
    joules, mean_w = accelerator_joules(case)
    region = ("region", f"{case.cloud}:{case.region}")
    fleet, country, world = (
        ("provider", case.cloud),
        ("country", place["country"]),
        ("world", "WORLD"),
    )
    pue = first("pue", "annual", region, fleet, world)
    intensity = first("intensity", "lifecycle", ("zone", place["zone"]), country, world)
    offsite = first("ewif", "consumption", ("subregion", place["subregion"]), country, world)
    onsite = first("wue", "consumption", region, fleet) or D(0)
    assert pue is not None
    assert intensity is not None
    assert offsite is not None
    gpu_wh = joules / 3600
    it_wh = gpu_wh * c["host_overhead"]
    energy_wh = it_wh * pue
    life_h = c["embodied_life_years"] * 8760 * c["embodied_active_share"]
    values = {
        "gpu_energy_wh": gpu_wh,
        "energy_wh": energy_wh,
        "carbon_g": energy_wh / 1000 * intensity,
        "embodied_g": gpu_wh / mean_w * c["embodied_gpu_g"] / life_h,
        "water_ml": it_wh * onsite + energy_wh * offsite,
    }
    return {
        "case": case.__dict__,
        "expected": {name: float(value) for name, value in values.items()},
    }


def main() -> None:
    """Write `expected.json`."""
    content = {"factors": version(), "cases": [expected(case) for case in CASES]}
    (HERE / "expected.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
