"""What Marlin costs inside an agent: recording a call, memory, start-up and import.

    python bench/sdk.py                # tables
    python bench/sdk.py --json         # one line for machines

Calls are recorded in the agent's thread in bursts of 1000 with pauses of 0.1 s: with no broker,
with an embedded broker that takes the events, and with one that has gone away; "after a pause" is
one call every 2 ms, with cold caches. CPU time is the thread's own (what recording costs the agent,
the reading of the clock included), wall time includes what else runs on the machine. Imports and
start-up are measured in fresh processes, best of many; `start-up` is a run entered, a call recorded
and the run left, after the import.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from preflight import figures as crowd_figures

from marlin.broker.embedded import EmbeddedBroker
from marlin.runtime.link import KafkaLink, close_links, link_for
from marlin.runtime.meter import MeteredRun, run
from marlin.runtime.outgoing import OutgoingEvent
from marlin.schemas import Policy
from marlin.settings import KafkaSettings, Settings
from marlin.tokens import TokenUsage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crowd import from_tasks, from_threads

POLICY = Policy(carbon_budget_g=1e9, warn_at=(0.5, 0.9))
USAGE = TokenUsage(1200, 300, 2000, cost_usd=0.004)
CALL: dict[str, Any] = {"model": "gpt-4o", "provider": "openai", "region": "us-east-1"}
BURST_CALLS, PAUSE_S = 1000, 0.1
WARM_UP = 500
EVENTS_IN_MEMORY = 100_000

IMPORTS = {
    "python alone": "pass",
    "import pydantic": "from pydantic import BaseModel",
    "import marlin": "import marlin",
    "from marlin import MeshFlow": "from marlin import MeshFlow",
    "import marlin; marlin.run": "import marlin; marlin.run",
}
START_UP = """
with marlin.run(1.0, kafka=False) as run:
    run.record(marlin.TokenUsage(1000, 200), model="gpt-4o")
"""


def timings(
    step: Callable[[], object], calls: int, burst: int = BURST_CALLS, pause_s: float = PAUSE_S
) -> dict[str, float]:
    """CPU and wall time of `step` in this thread, median and 0.99 quantile [µs]."""
    for _ in range(WARM_UP):
        step()
    cpu_ns: list[int] = []
    wall_ns: list[int] = []
    for number in range(calls):
        if number % burst == 0:
            time.sleep(pause_s)
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        step()
        cpu_ns.append(time.thread_time_ns() - cpu)
        wall_ns.append(time.perf_counter_ns() - wall)
    found: dict[str, float] = {}
    for name, values in (("cpu", cpu_ns), ("wall", wall_ns)):
        cuts = statistics.quantiles(values, n=100)
        found[f"{name}_us_p50"] = round(cuts[49] / 1000, 2)
        found[f"{name}_us_p99"] = round(cuts[98] / 1000, 2)
    return found


def record_in(metered: MeteredRun) -> Callable[[], object]:
    """A step that records one call."""
    return lambda: metered.record(USAGE, **CALL)


def call_in(metered: MeteredRun) -> Callable[[], object]:
    """A step that asks for a call and finishes it."""

    def step() -> None:
        call = metered.start_call(prompt_tokens=3000, **CALL)
        call.finish(USAGE)

    return step


def without_broker(calls: int) -> dict[str, dict[str, float]]:
    """Purely local, and the clock alone."""
    with run(POLICY, kafka=False) as metered:
        return {
            "the clock alone": timings(lambda: None, calls),
            "record, no broker": timings(record_in(metered), calls),
            "record, no broker, after a pause": timings(
                record_in(metered), calls // 20, burst=1, pause_s=0.002
            ),
            "start_call + finish, no broker": timings(call_in(metered), calls),
        }


async def with_broker(calls: int) -> dict[str, dict[str, float]]:
    """The broker up; then gone."""
    with tempfile.TemporaryDirectory() as home:
        async with EmbeddedBroker() as broker:
            kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
            settings = Settings(home=Path(home), kafka=kafka)
            link = link_for(settings)
            async with run(POLICY, settings=settings) as metered:
                await link.flush(30.0)
                up = await asyncio.to_thread(timings, record_in(metered), calls)
            up |= counts(link)
        async with run(POLICY, settings=settings) as metered:
            await asyncio.sleep(1.0)
            down = await asyncio.to_thread(timings, record_in(metered), calls)
            down |= counts(link)
        await asyncio.to_thread(close_links)
    return {"record, broker up": up, "record, broker down": down}


def counts(link: KafkaLink) -> dict[str, float]:
    """What became of the events."""
    health = link.health()
    return {
        "undelivered": health.undelivered,
        "spilled": health.spilled,
        "dropped": health.dropped,
    }


def memory() -> dict[str, float]:
    """Bytes that an event takes while it waits."""
    waiting: list[OutgoingEvent] = []

    class Buffer:
        def emit(self, event: OutgoingEvent) -> None:
            waiting.append(event)

    from marlin.estimation import default_estimator
    from marlin.runtime.run import Run

    core = Run("run-1", POLICY, default_estimator(), sink=Buffer())
    usages = [TokenUsage(1200 + n % 500, 300 + n % 70) for n in range(1000)]
    for usage in usages:
        core.record(usage, agent_id="writer", **CALL)
    waiting.clear()
    gc.collect()
    tracemalloc.start()
    for number in range(EVENTS_IN_MEMORY):
        core.record(usages[number % 1000], agent_id="writer", latency_s=number / 7, **CALL)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    encoded = statistics.mean(len(event.encode()) for event in waiting[:1000])
    return {
        "events": EVENTS_IN_MEMORY,
        "bytes_per_event": round(size / EVENTS_IN_MEMORY),
        "megabytes": round(size / 1e6, 1),
        "encoded_bytes_per_event": round(encoded),
    }


def fresh(code: str, before: str = "pass") -> dict[str, float]:
    """Best of many fresh processes [s]: CPU time of `code` after `before`, and its wall time."""
    program = (
        f"import time\n{before}\nc, w = time.process_time(), time.perf_counter()\n{code}\n"
        "print(time.process_time() - c, time.perf_counter() - w)"
    )
    cpu_s: list[float] = []
    wall_s: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        for _ in range(9):
            done = subprocess.run(
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                check=True,
                cwd=home,
                env={"MARLIN_HOME": home, "PATH": ""},
            )
            cpu, wall = map(float, done.stdout.split())
            cpu_s.append(cpu)
            wall_s.append(wall)
    return {"cpu_s": round(min(cpu_s), 4), "wall_s": round(min(wall_s), 4)}


def crowds(trials: int) -> dict[str, Any]:
    """Pre-flight against the plain check; see `preflight.py`."""
    found: dict[str, Any] = {}
    for preflight, name in ((False, "plain check"), (True, "pre-flight")):
        found[f"threads, {name}"] = crowd_figures(
            [from_threads(preflight, seed) for seed in range(trials)]
        )
        found[f"asyncio, {name}"] = crowd_figures(
            [asyncio.run(from_tasks(preflight, seed)) for seed in range(trials)]
        )
    return found


def show(found: dict[str, Any]) -> None:
    """The figures as tables."""
    columns = ("cpu_us_p50", "cpu_us_p99", "wall_us_p50", "wall_us_p99", "spilled", "dropped")
    print(f"{'':<34}" + "".join(f"{column:>13}" for column in columns))
    for name, row in found["record"].items():
        print(f"{name:<34}" + "".join(f"{row.get(column, ''):>13}" for column in columns))
    print(f"\nmemory: {found['memory']}")
    for name, row in {**found["import"], "start-up": found["start_up"]}.items():
        print(f"{name:<34}{row['cpu_s']:>10.4f} s CPU{row['wall_s']:>10.4f} s wall")
    print("\n200 calls at once near the budget, overshoot_g (median), largest error_g of one call:")
    for name, row in found["preflight"].items():
        print(f"{name:<34}{row['overshoot_g_median']:>10.4f}{row['error_g_median']:>10.4f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {
        "record": without_broker(options.calls) | asyncio.run(with_broker(options.calls)),
        "memory": memory(),
        "import": {name: fresh(code) for name, code in IMPORTS.items()},
        "start_up": fresh(START_UP, before="import marlin; marlin.run"),
        "preflight": crowds(options.trials),
    }
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
