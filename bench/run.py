"""Every benchmark, or those asked for: `make bench`.

    python bench/run.py [--broker apache|embedded] [--quick] [PART …]

Parts: throughput, scaling, latency, steps, sink, sdk, recovery, and only when asked for, since it
takes long: ledger (a hundred million events). Figures go to `bench/out/BROKER.json`;
a part that is run again replaces its own. With `--quick` everything is small: it shows that the
harness works, its figures mean nothing and go to `bench/out/quick-BROKER.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import ROOT, describe
from rich.console import Console
from tables import tables

OUT = ROOT / "bench/out"
FOLDER = ROOT / "bench"
BY_BROKER = ("throughput.py", "scaling.py", "latency.py", "sink_lag.py")
"""Scripts that are run on the broker asked for; the others bring what they need."""

Commands = dict[str, list[list[str]]]

FULL: Commands = {
    "throughput": [["throughput.py"]],
    "scaling": [["scaling.py"]],
    "latency": [["latency.py"]],
    "steps": [["steps.py"]],
    "sink": [["sink.py", "--json"], ["sink_lag.py", "--json"]],
    "sdk": [["sdk.py", "--json"]],
    "ledger": [["ledger.py", "--json", "--events", "100000000"]],
    "recovery": [["recovery.py", "--runs", "1000000"], ["recovery.py", "--fail-over"]],
}

QUICK: Commands = {
    "throughput": [["throughput.py", "--events", "40000", "--rounds", "1"]],
    "scaling": [
        ["scaling.py", "--events", "20000", "--rounds", "1", "--sweeps", "workers"],
    ],
    "latency": [["latency.py", "--loads", "0", "2000", "--probes", "100"]],
    "steps": [["steps.py", "--rounds", "2"]],
    "sink": [["sink.py", "--json", "--records", "50000"]],
    "sdk": [["sdk.py", "--json", "--calls", "1000", "--trials", "1"]],
    "ledger": [["ledger.py", "--json", "--events", "100000"]],
}

ASKED_FOR = ("ledger",)


def run(part: str, commands: list[list[str]], broker: str) -> Any:
    """The JSON that a part printed, one value or several; None where it did not run."""
    found: list[Any] = []
    for script, *options in commands:
        if not (FOLDER / script).exists():
            print(f"{part}: there is no bench/{script}", file=sys.stderr)
            continue
        if script in BY_BROKER:
            options += ["--broker", broker]
        done = subprocess.run(
            [sys.executable, str(FOLDER / script), *options], stdout=subprocess.PIPE, check=False
        )
        if done.returncode != 0:
            print(f"{part}: bench/{script} ended with {done.returncode}", file=sys.stderr)
            return None
        found += [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    if not found:
        return None
    return found[0] if len(found) == 1 else found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(FULL)}")
    parser.add_argument("--broker", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    commands = QUICK if options.quick else FULL
    parts = options.parts or [part for part in commands if part not in ASKED_FOR]
    unknown = set(parts) - set(commands)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    OUT.mkdir(exist_ok=True)
    path = OUT / f"{'quick-' if options.quick else ''}{options.broker}.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    failed = False
    for part in parts:
        print(f"{part} on {options.broker}", file=sys.stderr)
        before, began = describe(), time.perf_counter()
        found = run(part, commands[part], options.broker)
        failed |= found is None
        if found is None:
            continue
        figures[part] = {
            "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            "took_s": round(time.perf_counter() - began),
            "machine": before,
            "figures": found,
        }
        path.write_text(json.dumps(figures, indent=1) + "\n")
    console = Console()
    for table in tables(figures):
        console.print(table.as_rich())
    print(f"figures: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
