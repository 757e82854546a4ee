"""Plots of the figures: `bench/out/*.json` to `docs/performance/*.png`.

.venv-bench/bin/python bench/plots.py bench/out/apache.json docs/performance
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

COLOUR, QUIET = "#0b7285", "#adb5bd"
NAMES = {
    "marlin": "Marlin",
    "bytewax": "Bytewax",
    "quix": "Quix Streams",
    "faust": "stock Faust",
    "aiokafka": "bare aiokafka\n+ orjson",
    "confluent": "bare confluent-kafka\n+ orjson",
}


def throughput(found, path):
    """Bars, with the spread of the rounds."""
    medians = {name: found["medians"][name] for name in NAMES if name in found["medians"]}
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for row, (name, one) in enumerate(reversed(medians.items())):
        rate = one["per_s"]
        spread = [[rate - one["per_s_low"]], [one["per_s_high"] - rate]]
        axes.barh(row, rate, color=COLOUR if name == "marlin" else QUIET)
        axes.errorbar(rate, row, xerr=spread, color="#495057", capsize=3)
        axes.annotate(
            f"{rate:,.0f}",
            (one["per_s_high"], row),
            (6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(medians)), [NAMES[name] for name in reversed(medians)])
    axes.set_xlim(right=axes.get_xlim()[1] * 1.12)
    axes.set_xlabel("events a second, one core")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _save(figure, axes, path)


def scaling(found, path):
    """One small plot a sweep."""
    sweeps = found["sweeps"]
    figure, all_axes = plt.subplots(1, len(sweeps), figsize=(3.4 * len(sweeps), 3.2), squeeze=False)
    for axes, (sweep, points) in zip(all_axes[0], sweeps.items(), strict=True):
        labels = [label.replace(", broker on the", "\nbroker on\nthe") for label in points]
        rates = [one["per_s"] / 1000 for one in points.values()]
        axes.bar(labels, rates, color=COLOUR)
        few = [one.get("few_active_per_s", 0) / 1000 for one in points.values()]
        if any(few):
            axes.scatter(labels, [rate or None for rate in few], color="#e8590c", zorder=3)
        axes.set_title({"runs": "live runs (dots: 1,000 active)"}.get(sweep, sweep), fontsize=10)
        axes.tick_params(axis="x", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0][0].set_ylabel("thousand events a second")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def latency(found, path):
    """p50, p99 and p99.9 by load, for each kind."""
    kinds = {
        "floor_ms": ("two bare hops", QUIET),
        "command_ms": ("command read", COLOUR),
        "agent_ms": ("run told to stop (SDK)", "#e8590c"),
    }
    figure, axes = plt.subplots(figsize=(8, 3.6))
    width = 0.25
    for number, (kind, (title, colour)) in enumerate(kinds.items()):
        for row, load in enumerate(found["loads"]):
            one = load[kind]
            if not one:
                continue
            x = row + (number - 1) * width
            axes.bar(x, one["p99"], width * 0.9, color=colour, label=title if not row else None)
            axes.plot([x - width / 3, x + width / 3], [one["p50"]] * 2, color="black", lw=1.5)
            axes.plot(x, one["p999"], "k^", ms=5)
    rates = [load["asked_per_s"] for load in found["loads"]]
    axes.set_yscale("log")
    axes.set_xticks(range(len(rates)), [f"{rate:,}" if rate else "idle" for rate in rates])
    axes.set_xlabel("background load, events a second")
    axes.set_ylabel("ms (bar p99, line p50, triangle p99.9)")
    axes.legend(frameon=False, fontsize=9)
    _save(figure, axes, path)


def _save(figure, axes, path):
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    figures = json.loads(source.read_text())
    for part, plot in (("throughput", throughput), ("scaling", scaling), ("latency", latency)):
        if part in figures:
            plot(figures[part]["figures"], folder / f"{part}-{source.stem}.png")


if __name__ == "__main__":
    main()
