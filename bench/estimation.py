"""Marlin, EcoLogits and ecocost on the same measured calls, and what an estimate costs.

    make bench-estimation
    python bench/estimation.py SCIENCE_DIR [--peers PYTHON] [--json FILE]

`SCIENCE_DIR` holds `mlenergy_v3_llm.csv` and `validation.csv`. Each row is compared on its own
boundary: accelerators only, or all-in. Token counts that a source does not publish are those of
`tools/fit_energy.py`, the same for every estimator.

Columns: `known` has batch, GPUs, precision and hardware as measured; `held out` is the same with
constants fitted without the row's model family; `blind` has the model's name and tokens only.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import statistics
import subprocess
import sys
import timeit
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from marlin.estimation import (
    Estimate,
    Estimator,
    ModelSpec,
    OperatingPoint,
    estimate,
    estimate_columns,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import fit_energy

# Arrow publishes no types.
pyarrow: Any = import_module("pyarrow")

ALL_IN = ("all-in", "datacentre", "whole node")
SHOWN = ("known", "held out", "blind", "EcoLogits", "EcoLogits, true batch", "ecocost")


@dataclass(slots=True)
class Case:
    """One published figure with everything an estimator may be told."""

    group: str
    model: str
    active_b: float | None
    total_b: float | None
    hardware: str | None
    gpus: int | None
    batch: float | None
    precision: str | None
    input_tokens: float
    output_tokens: float
    truth_wh: float
    all_in: bool
    ratios: dict[str, float] = field(default_factory=lambda: {})
    inside: bool | None = None
    width: float | None = None

    @property
    def batched(self) -> bool:
        """Measured under concurrency: what API traffic looks like."""
        return self.group.startswith(("measured", "InferenceMAX"))


def optional(text: str) -> float | None:
    """A number, or None for an empty field."""
    return float(text) if text else None


def measured_cases(path: Path) -> list[Case]:
    """The GPU measurements: one case per configuration."""
    kinds = {"Dense Transformer": "dense", "MoE": "experts", "Mamba-Transformer Hybrid": "hybrid"}
    cases: list[Case] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            output_tokens = float(row["avg_output_tokens"])
            cases.append(
                Case(
                    group=f"measured: {row['task']}, {kinds[row['arch']]}",
                    model=row["model"],
                    active_b=float(row["active_params_b"]),
                    total_b=float(row["total_params_b"]),
                    hardware=row["gpu"],
                    gpus=int(row["n_gpus"]),
                    batch=float(row["avg_batch"]),
                    precision=row["precision"],
                    input_tokens=fit_energy.prompt_tokens(row["task"], output_tokens),
                    output_tokens=output_tokens,
                    truth_wh=float(row["gpu_joules_per_output_token"]) * output_tokens / 3600,
                    all_in=False,
                )
            )
    return cases


GROUPS = {
    "IMAX": "InferenceMAX 2025-12, all-in",
    "LAMBDA": "Lambda model cards, all-in, concurrency unknown",
    "JEGHAM": "Jegham et al., modelled from API latency",
    "EPOCH": "Epoch AI, modelled",
    "MS": "Microsoft, modelled from throughput",
    "HF": "unbatched node (never calibrated on)",
    "LUCCIONI": "unbatched node (never calibrated on)",
    "MELODI": "unbatched node (never calibrated on)",
}


def published_cases(path: Path) -> list[Case]:
    """The other published figures that come with token counts."""
    cases: list[Case] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            group = GROUPS.get(row["id"].split("-")[0])
            output_tokens = optional(row["output_tokens"])
            if group is None or output_tokens is None or not row["energy_wh"]:
                continue
            gpus = optional(row["n_gpus"])
            cases.append(
                Case(
                    group=group,
                    model=row["model"],
                    active_b=optional(row["active_params_b"]),
                    total_b=optional(row["total_params_b"]),
                    hardware=row["hardware"].removeprefix("inferred DGX ") or None,
                    gpus=None if gpus is None else int(gpus),
                    batch=optional(row["batch"]),
                    precision=row["precision"] or None,
                    input_tokens=optional(row["input_tokens"]) or 0.0,
                    output_tokens=output_tokens,
                    truth_wh=float(row["energy_wh"]),
                    all_in=row["boundary"].startswith(ALL_IN),
                )
            )
    return cases


def answer(case: Case, point: OperatingPoint | None) -> Estimate:
    """Marlin's estimate of a case."""
    return estimate(
        case.model,
        input_tokens=round(case.input_tokens),
        output_tokens=round(case.output_tokens),
        operating_point=point,
    )


def add_marlin(cases: Sequence[Case]) -> None:
    """Ratios of Marlin with everything known and with the model's name only."""
    for case in cases:
        known = answer(
            case,
            OperatingPoint(
                hardware=case.hardware,
                gpus=case.gpus,
                batch=case.batch,
                precision=case.precision,
            ),
        )
        blind = answer(case, None)
        pick = "energy_wh" if case.all_in else "gpu_energy_wh"
        case.ratios["known"] = getattr(known, pick).central / case.truth_wh
        span = getattr(blind, pick)
        case.ratios["blind"] = span.central / case.truth_wh
        case.inside = span.low <= case.truth_wh <= span.high
        case.width = span.high / span.low


def add_held_out(cases: Sequence[Case], path: Path) -> None:
    """Ratios of fits that saw nothing of the case's family; in the order of the file."""
    ratios, _ = fit_energy.held_out(fit_energy.read_measured(path), lambda row: row.group)
    for case, ratio in zip(cases, ratios, strict=True):
        case.ratios["held out"] = float(ratio)


def add_peers(cases: Sequence[Case], python: str) -> None:
    """Ratios of the peers, asked in their own interpreter."""
    calls: list[dict[str, Any]] = [
        {
            "active_params_b": case.active_b,
            "total_params_b": case.total_b,
            "hardware": case.hardware,
            "gpus": case.gpus,
            "batch": case.batch,
            "input_tokens": case.input_tokens,
            "output_tokens": case.output_tokens,
        }
        for case in cases
    ]
    script = Path(__file__).with_name("estimation_peers.py")
    done = subprocess.run(
        [python, str(script)], input=json.dumps(calls), capture_output=True, text=True, check=True
    )
    for case, peers in zip(cases, json.loads(done.stdout), strict=True):
        for peer, (gpu_wh, all_in_wh) in (peers or {}).items():
            case.ratios[peer] = (all_in_wh if case.all_in else gpu_wh) / case.truth_wh


def figures(ratios: Sequence[float]) -> dict[str, float]:
    """Median ratio, typical (median) and p90 factor of error, share within a factor of two."""
    errors = sorted(abs(math.log(ratio)) for ratio in ratios)
    rank = min(len(errors) - 1, math.ceil(0.9 * len(errors)) - 1)
    return {
        "rows": len(ratios),
        "median_ratio": statistics.median(ratios),
        "typical_error": math.exp(statistics.median(errors)),
        "p90_error": math.exp(errors[rank]),
        "within_2x": sum(error <= math.log(2) for error in errors) / len(errors),
    }


def table(cases: Sequence[Case]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by group and estimator."""
    grouped: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        grouped[case.group].append(case)
    grouped = {"all batched measurements": [c for c in cases if c.batched], **grouped}
    return {
        group: {
            name: figures(ratios)
            for name in SHOWN
            if (ratios := [case.ratios[name] for case in members if name in case.ratios])
        }
        for group, members in grouped.items()
    }


def print_table(result: dict[str, dict[str, dict[str, float]]]) -> None:
    """The table for people, one line per group and estimator, the best typical error starred."""
    print(f"{'':24}{'rows':>5} {'median ratio':>13} {'typical':>9} {'p90':>9} {'within 2x':>10}")
    for group, estimators in result.items():
        print(group)
        best = min(one["typical_error"] for one in estimators.values())
        for name, one in estimators.items():
            label = name if name.startswith("E") or name == "ecocost" else f"Marlin, {name}"
            star = "*" if one["typical_error"] == best else " "
            print(
                f" {star} {label:21}{one['rows']:>5.0f} {one['median_ratio']:>13.2f} "
                f"{one['typical_error']:>8.2f}x {one['p90_error']:>8.2f}x {one['within_2x']:>10.0%}"
            )


def ranges(cases: Sequence[Case]) -> dict[str, float]:
    """Share of batched rows inside the blind range, and its median width (high over low)."""
    batched = [case for case in cases if case.batched]
    return {
        "rows": len(batched),
        "inside": sum(bool(case.inside) for case in batched) / len(batched),
        "median_width": statistics.median(case.width or 1.0 for case in batched),
    }


def speed() -> dict[str, float]:
    """What an estimate costs: the best of many short repeats, since other programs run too."""
    estimator = Estimator(cache_size=16)
    names = {"footprint": estimator.coefficients("gpt-4o", "openai", "us-east-1").footprint}
    calls = 50_000
    per_call_s = min(
        timeit.repeat("footprint(1200, 300, 0, 400)", globals=names, number=calls, repeat=40)
    )
    spec = ModelSpec(name="own", active_params_b=12, total_params_b=70)
    compile_s = min(timeit.repeat(lambda: estimator.compile(spec), number=100, repeat=10))
    cold = itertools.cycle([f"acme-{size}b-chat" for size in range(1, 400)])
    cold_s = min(
        timeit.repeat(
            lambda: estimator.coefficients(next(cold), "aws", "eu-west-1"), number=100, repeat=10
        )
    )
    rows = 200_000
    tokens = np.arange(rows) % 5000
    texts = {"model": ["gpt-4o"] * rows, "provider": ["openai"] * rows, "region": [""] * rows}
    column_s = min(
        timeit.repeat(
            lambda: estimate_columns(
                **{name: pyarrow.array(values) for name, values in texts.items()},
                input_tokens=tokens,
                cache_read_tokens=tokens,
                cache_write_tokens=tokens,
                output_tokens=tokens,
            ),
            number=1,
            repeat=10,
        )
    )
    return {
        "footprint_ns": per_call_s / calls * 1e9,
        "columns_ns": column_s / rows * 1e9,
        "compile_ms": compile_s / 100 * 1e3,
        "cold_name_ms": cold_s / 100 * 1e3,
    }


def main() -> None:
    """Compare, print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("science", type=Path)
    parser.add_argument("--peers", help="interpreter that has EcoLogits and ecocost installed")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--fast", action="store_true", help="without the held-out fits")
    arguments = parser.parse_args()
    measured_path = arguments.science / "mlenergy_v3_llm.csv"
    measured = measured_cases(measured_path)
    cases = measured + published_cases(arguments.science / "validation.csv")
    add_marlin(cases)
    if not arguments.fast:
        add_held_out(measured, measured_path)
    if arguments.peers:
        add_peers(cases, arguments.peers)
    result, blind, cost = table(cases), ranges(cases), speed()
    print_table(result)
    print(
        f"\nblind range: {blind['inside']:.0%} of {blind['rows']:.0f} batched rows inside, "
        f"median width {blind['median_width']:.1f} (high over low)"
        f"\none footprint {cost['footprint_ns']:.0f} ns, with its ranges in columns "
        f"{cost['columns_ns']:.0f} ns a row; compile {cost['compile_ms']:.3f} ms; "
        f"cold, with its name {cost['cold_name_ms']:.3f} ms"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"table": result, "blind": blind, "cost": cost}))


if __name__ == "__main__":
    main()
