"""Fits the roofline's constants to measured rows and writes them to `data/fit.csv`.

    python tools/fit_energy.py MEASURED.csv [--write]

`MEASURED.csv` has one configuration a row: task, model, gpu, n_gpus, precision, avg_batch,
avg_output_tokens, gpu_joules_per_output_token, avg_gpu_power_w, output_tokens_per_s, arch (the
ML.ENERGY leaderboard v3, Apache-2.0 code, measured with Zeus on vLLM 0.11.1). The rows themselves
are not part of Marlin; only the constants derived from them are.

The equations are those of `marlin.estimation.roofline`, so what is fitted is what runs. Residuals
are the logarithms of modelled over measured energy and, at half weight, power; large ones count
linearly, so that single odd configurations do not bend the fit. Every model family counts alike,
however many rows it has. Each constant has a log-normal prior from physics, which decides where the
data cannot (the product of efficiency and power share is seen well, each of them less so).

Validation holds out whole families in turn, and whole architecture classes in turn; the figures go
beside the constants. The range of each constant is its range over the held-out fits.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marlin.estimation import OperatingPoint
from marlin.estimation.compiler import assume_load, serve
from marlin.estimation.factorset import shipped_factor_set
from marlin.estimation.naming import ModelFinder
from marlin.estimation.roofline import Roofline, Served, accelerator_seconds, token_energy_j

Vector = NDArray[np.float64]

PRIORS: dict[str, tuple[float, float, str]] = {
    "memory_efficiency": (0.6, 0.15, "achievable share of HBM bandwidth 0.5-0.8"),
    "narrow_expert_efficiency": (
        0.7,
        0.4,
        "kernels of quantised experts reach less; how much is open",
    ),
    "compute_efficiency": (0.35, 0.3, "decode GEMMs are narrow"),
    "prefill_efficiency": (0.35, 0.3, "model FLOP utilisation of prefill 0.2-0.5"),
    "layer_overhead_s": (8e-5, 1.0, "a few kernel launches of 5-20 us"),
    "layer_overhead_per_doubling_s": (2e-5, 1.0, "two collectives of about 10 us"),
    "sequence_overhead_s": (3e-5, 1.0, "scheduler and sampler, tens of us"),
    "idle_power_share": (0.4, 0.15, "an H100 with a resident model waits at 0.2-0.5 of its TDP"),
    "sequence_power_share": (0.6, 0.2, "kernels of earlier steps overlap with scheduling"),
    "memory_power_share": (0.65, 0.1, "measured at batch 8 on dense models: 0.6-0.75"),
    "compute_power_share": (0.95, 0.03, "at most 1: power is capped at the TDP"),
}
"""Median, spread of the logarithm, and why."""

HEADER = ("name", "value", "low", "high", "unit", "source", "date", "licence", "tier", "note")

PRIOR_WEIGHT = 0.6
POWER_WEIGHT = 0.5
ROBUST_FROM = 0.3
"""Residual [logarithm] from which it counts linearly: a factor of 1.35."""

INPUT_TOKENS = {"lm-arena-chat": 50.0, "gpqa": 250.0}
"""Assumed prompt lengths [tokens]: the source publishes none. Short chat questions; GPQA's
question with its four answers."""
INPUT_PER_OUTPUT = {"sourcegraph-fim": 7.0}
"""Assumed for code completion: prompt tokens per output token. It absorbs prefill there, so these
rows are weak evidence for `prefill_efficiency`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured configuration."""

    task: str
    group: str
    """Family: all models of the same sizes, so that a tuned copy is held out with its base."""
    arch: str
    served: Served
    input_tokens: float
    output_tokens: float
    j_per_token: float
    power_w: float


def prompt_tokens(task: str, output_tokens: float) -> float:
    """Assumed prompt length of a task [tokens]."""
    if task in INPUT_PER_OUTPUT:
        return INPUT_PER_OUTPUT[task] * output_tokens
    return INPUT_TOKENS[task]


def read_measured(path: Path) -> list[Measured]:
    """The rows of the measured file, with each model's shape from the catalogue."""
    factor_set = shipped_factor_set()
    finder, headroom = ModelFinder(factor_set), factor_set.value("memory_headroom")
    rows: list[Measured] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            spec, codes = finder.find(row["model"])
            if codes:
                raise SystemExit(f"{row['model']} is not in the catalogue: {codes}")
            point = OperatingPoint(
                hardware=row["gpu"],
                gpus=int(row["n_gpus"]),
                batch=float(row["avg_batch"]),
                precision=row["precision"],
            )
            load = assume_load(spec, "", point, factor_set)
            output_tokens = float(row["avg_output_tokens"])
            rows.append(
                Measured(
                    task=row["task"],
                    group=f"{spec.total_b:.0f}B, {spec.active_params_b:.0f}B active",
                    arch=row["arch"],
                    served=serve(spec, load, load.batch, 1.0, headroom),
                    input_tokens=prompt_tokens(row["task"], output_tokens),
                    output_tokens=output_tokens,
                    j_per_token=float(row["gpu_joules_per_output_token"]),
                    power_w=float(row["avg_gpu_power_w"]),
                )
            )
    return rows


def modelled(row: Measured, constants: Roofline) -> tuple[float, float]:
    """Energy per output token, prompt included [J], and mean power of all accelerators [W]."""
    tokens = (row.input_tokens, row.output_tokens)
    energy_j = token_energy_j(row.served, constants).of_call(*tokens)
    seconds = accelerator_seconds(row.served, constants).of_call(*tokens)
    return energy_j / row.output_tokens, energy_j / seconds * row.served.gpus


def residuals(rows: Sequence[Measured], weights: Vector, logs: Vector) -> Vector:
    """Weighted logarithms of modelled over measured energy and power, then the priors'."""
    constants = Roofline(**dict(zip(PRIORS, np.exp(logs), strict=True)))
    pairs = np.array([modelled(row, constants) for row in rows])
    truth = np.array([(row.j_per_token, row.power_w) for row in rows])
    error = np.log(pairs / truth) * weights[:, None]
    prior = [
        PRIOR_WEIGHT * (value - np.log(median)) / spread
        for value, (median, spread, _) in zip(logs, PRIORS.values(), strict=True)
    ]
    return np.concatenate([error[:, 0], POWER_WEIGHT * error[:, 1], prior])


def minimise(function: Callable[[Vector], Vector], start: Vector, soft: int) -> Vector:
    """Levenberg-Marquardt on residuals whose first `soft` are damped beyond `ROBUST_FROM`."""

    def damped(raw: Vector) -> Vector:
        out = raw.copy()
        scaled = 1 + (raw[:soft] / ROBUST_FROM) ** 2
        out[:soft] = np.sign(raw[:soft]) * ROBUST_FROM * np.sqrt(2 * (np.sqrt(scaled) - 1))
        return out

    point, damping = start.copy(), 1e-2
    value = damped(function(point))
    for _ in range(60):
        columns: list[Vector] = []
        for index in range(len(point)):
            nudged = point.copy()
            nudged[index] += 1e-4
            columns.append((damped(function(nudged)) - value) / 1e-4)
        jacobian: Vector = np.stack(columns, axis=1)
        transposed: Vector = jacobian.transpose()
        normal: Vector = transposed @ jacobian
        scale: Vector = np.diag(normal.diagonal())
        step = np.linalg.solve(normal + damping * scale, -(transposed @ value))
        trial: Vector = point + np.clip(step.astype(np.float64), -0.5, 0.5)
        trial_value = damped(function(trial))
        gain = float(value @ value - trial_value @ trial_value)
        if gain <= 0:
            damping *= 5
            if damping > 1e6:
                break
            continue
        point, value, damping = trial, trial_value, damping / 3
        if gain < 1e-7:
            break
    return point


def fit(rows: Sequence[Measured]) -> Roofline:
    """The constants that fit `rows` best under the priors."""
    groups = [row.group for row in rows]
    share = len(rows) / len(set(groups))
    weights = np.array([(share / groups.count(group)) ** 0.5 for group in groups])
    start = np.log([median for median, _, _ in PRIORS.values()])
    logs = minimise(lambda at: residuals(rows, weights, at), start, soft=2 * len(rows))
    return Roofline(**dict(zip(PRIORS, (float(v) for v in np.exp(logs)), strict=True)))


def held_out(
    rows: Sequence[Measured], key: Callable[[Measured], str]
) -> tuple[Vector, list[Roofline]]:
    """Modelled over measured energy of each row, by a fit that saw nothing of its group."""
    ratios = np.empty(len(rows))
    fits: list[Roofline] = []
    for group in sorted({key(row) for row in rows}):
        constants = fit([row for row in rows if key(row) != group])
        fits.append(constants)
        for index, row in enumerate(rows):
            if key(row) == group:
                ratios[index] = modelled(row, constants)[0] / row.j_per_token
    return ratios, fits


def summary(ratios: Vector) -> str:
    """Median ratio, typical (median) factor of error, its 90th percentile, share within 2x."""
    error = np.abs(np.log(ratios))
    return (
        f"median ratio {np.median(ratios):.2f}; typical error {np.exp(np.median(error)):.2f}x; "
        f"p90 {np.exp(np.quantile(error, 0.9)):.2f}x; within 2x {np.mean(error <= np.log(2)):.0%}"
    )


def write_fit(path: Path, constants: Roofline, fits: Sequence[Roofline], figures: str) -> None:
    """Write `fit.csv`: each constant with its range over the held-out fits and its prior."""
    source = "Fit of tools/fit_energy.py to ML.ENERGY leaderboard v3 (vLLM 0.11.1; H100 and B200)"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for name, (median, _, why) in PRIORS.items():
            values = [getattr(one, name) for one in (constants, *fits)]
            writer.writerow(
                (
                    name,
                    f"{values[0]:.4g}",
                    f"{min(float(f'{v:.4g}') for v in values):.4g}",
                    f"{max(float(f'{v:.4g}') for v in values):.4g}",
                    "s" if name.endswith("_s") else "1",
                    source,
                    "2026-11",
                    "own",
                    "fit",
                    f"prior {median:g} ({why}). Held-out families: {figures}",
                )
            )


def main() -> None:
    """Fit, validate, print; with `--write` replace the shipped constants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = read_measured(arguments.measured)
    constants = fit(rows)
    ratios = np.array([modelled(row, constants)[0] / row.j_per_token for row in rows])
    by_family, fits = held_out(rows, lambda row: row.group)
    by_class, _ = held_out(rows, lambda row: row.arch)
    by_gpu, _ = held_out(rows, lambda row: f"{row.served.tdp_w}")
    print(f"in sample              {summary(ratios)}")
    print(f"held-out families      {summary(by_family)}")
    print(f"held-out architectures {summary(by_class)}")
    print(f"held-out accelerators  {summary(by_gpu)}")
    for group in sorted({row.group for row in rows}):
        mask = np.array([row.group == group for row in rows])
        print(f"  {group:26s} {summary(by_family[mask])}  ({mask.sum()} rows)")
    for name in PRIORS:
        print(f"  {name:30s} {getattr(constants, name):.4g}")
    if arguments.write:
        target = Path(__file__).parents[1] / "marlin/estimation/data/fit.csv"
        write_fit(target, constants, fits, summary(by_family))
        print(f"wrote {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
