"""What pre-flight is worth: 200 calls of one run at once, near its budget, with and without.

    python bench/preflight.py                # a table
    python bench/preflight.py --json         # the same for machines

The run has made 64 calls and has room for 20 more of average size; 200 ask at once, from threads
(none ends before all have asked) and from asyncio tasks (short ones end while others ask). Output
lengths are log-normal. "error" is the largest amount by which one call took more than its forecast.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crowd import Crowd, from_tasks, from_threads


def figures(crowds: list[Crowd]) -> dict[str, Any]:
    """Over many seeds; the worst where not said otherwise."""
    return {
        "made": statistics.median(crowd.made for crowd in crowds),
        "refused": statistics.median(crowd.refused for crowd in crowds),
        "overshoot_g_median": statistics.median(crowd.overshoot_g for crowd in crowds),
        "overshoot_g_max": max(crowd.overshoot_g for crowd in crowds),
        "error_g_median": statistics.median(crowd.largest_error_g for crowd in crowds),
        "overshoot_above_error": sum(c.overshoot_g > c.largest_error_g for c in crowds),
        "budget_used": statistics.median(crowd.spent_g / crowd.budget_g for crowd in crowds),
        "trials": len(crowds),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for preflight in (False, True):
        with_ = "pre-flight" if preflight else "plain check"
        seeds = range(arguments.trials)
        rows[f"threads, {with_}"] = figures([from_threads(preflight, seed) for seed in seeds])
        rows[f"asyncio, {with_}"] = figures(
            [asyncio.run(from_tasks(preflight, seed)) for seed in seeds]
        )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    head = ("", "made", "refused", "overshoot_g", "max", "error_g", "above error", "budget used")
    print("{:<22}{:>6}{:>9}{:>13}{:>10}{:>10}{:>13}{:>13}".format(*head))
    for name, row in rows.items():
        print(
            f"{name:<22}{row['made']:>6g}{row['refused']:>9g}{row['overshoot_g_median']:>13.4f}"
            f"{row['overshoot_g_max']:>10.4f}{row['error_g_median']:>10.4f}"
            f"{row['overshoot_above_error']:>8} of {row['trials']:<3}{row['budget_used']:>11.1%}"
        )


if __name__ == "__main__":
    main()
