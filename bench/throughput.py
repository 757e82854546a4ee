"""The full job on one core: Marlin, its peers, and the limits that bare clients set.

    python bench/throughput.py [--broker apache|embedded] [--events 1000000] [--rounds 5]

In each round the events are written to a new topic, and every contestant reads that topic, in an
order that alternates; slow ones read a share of it. The measured process has core 0, the broker
core 1. Needs `.venv-bench` (`make bench` makes it). Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path

import psutil
from machine import Broker, Kind, stage
from processes import new_settings, peer, worker
from trace_events import Fleet
from traffic import (
    Progress,
    alive,
    count_records,
    create_topic,
    delete_topics,
    follow,
    send,
    settled,
)

from marlin.settings import Settings
from marlin.topics import Topics

RUNS, AGENTS = 1000, 4

STEADY = (0.1, 0.9)
"""Which part of a contestant's events is measured: what is under way at both ends is then alike,
neither start-up nor the last batches count."""

CONTESTANTS = {
    "marlin": 1.0,
    "faust": 0.03,
    "quix": 0.3,
    "bytewax": 0.5,
    "aiokafka": 1.0,
    "confluent": 1.0,
}
"""Which share of the events each reads."""

Figures = dict[str, float]


async def marlin(settings: Settings, broker: Broker, folder: Path, count: int) -> Figures:
    """The real worker; exact: one record out for each event, all of it committed."""
    topics = Topics(settings.kafka.topic_prefix)
    async with worker(settings, folder) as process:
        progress = await follow(settings, topics.carbon, count, [process], broker.process)
        await settled(settings, topics.events, topics.group)
    found = await count_records(settings, topics.carbon)
    if found != count:
        raise AssertionError(f"{found:,} carbon records came of {count:,} events")
    return _figures(progress, count)


def _figures(progress: Progress, count: int) -> Figures:
    steady = progress.between(*(share * count for share in STEADY))
    return {
        "per_s": steady.per_s,
        "cpu_us": steady.cpu_us,
        "broker_cpu_us": steady.broker_cpu_us,
        "rss_mb": progress.samples[-1].rss_bytes / 1e6,
    }


async def framework(
    name: str, settings: Settings, broker: Broker, folder: Path, count: int
) -> Figures:
    """A peer that writes its records to a topic of its own."""
    out = f"{settings.kafka.topic_prefix}{name}.out"
    await create_topic(settings, out)
    spec = _spec(settings, folder, name, count) | {"out": out, "declare": True}
    with peer(f"peer_{name}.py", spec, folder) as (process, log):
        try:
            progress = await follow(settings, out, count, [process], broker.process)
        except (TimeoutError, psutil.NoSuchProcess) as exc:
            raise RuntimeError(f"{name}: {exc}\n{log.read_text()[-3000:]}") from exc
    return _figures(progress, count)


async def bare(name: str, settings: Settings, broker: Broker, folder: Path, count: int) -> Figures:
    """A client that decodes and does nothing else; it measures itself."""
    spec = _spec(settings, folder, name, count) | {"client": name}
    with peer("peer_bare.py", spec, folder) as (process, log):
        while alive([process]):
            await asyncio.sleep(0.1)
    said = [line for line in log.read_text().splitlines() if line.startswith("{")]
    if not said:
        raise RuntimeError(f"{name} said nothing:\n{log.read_text()[-2000:]}")
    return json.loads(said[0])


def _spec(settings: Settings, folder: Path, name: str, count: int) -> dict[str, object]:
    topics = Topics(settings.kafka.topic_prefix)
    return {
        "bootstrap": settings.kafka.bootstrap_servers,
        "source": topics.events,
        "position": f"{topics.events}-3-1041",
        "group": f"{name}-{uuid.uuid4().hex[:6]}",
        "partitions": settings.kafka.partitions,
        "count": count,
        "folder": str(folder / f"{name}-{uuid.uuid4().hex[:6]}"),
    }


async def one_round(
    broker: Broker, folder: Path, events: list[tuple[bytes, bytes]], order: list[str]
) -> dict[str, Figures]:
    """Every contestant once, on one new topic."""
    settings = await new_settings(broker, folder)
    await send(settings, Topics(settings.kafka.topic_prefix).events, events)
    found: dict[str, Figures] = {}
    for name in order:
        count = int(len(events) * CONTESTANTS[name])
        try:
            if name == "marlin":
                found[name] = await marlin(settings, broker, folder, count)
            elif name in ("aiokafka", "confluent"):
                found[name] = await bare(name, settings, broker, folder, count)
            else:
                found[name] = await framework(name, settings, broker, folder, count)
            print(f"  {name:10} {found[name]['per_s']:10,.0f} events/s", file=sys.stderr)
        except Exception as exc:
            # A peer that cannot run here must not end the comparison; Marlin's failure does.
            if name == "marlin":
                raise
            print(f"  {name:10} did not finish: {exc}", file=sys.stderr)
    await delete_topics(settings)
    return found


def medians(rounds: list[dict[str, Figures]]) -> dict[str, Figures]:
    """Median, lowest and highest of each figure by contestant."""
    of: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in rounds:
        for name, figures in one.items():
            for figure, value in figures.items():
                of[name][figure].append(value)
    return {
        name: {
            "rounds": len(figures["per_s"]),
            **{figure: statistics.median(values) for figure, values in figures.items()},
            "per_s_low": min(figures["per_s"]),
            "per_s_high": max(figures["per_s"]),
        }
        for name, figures in of.items()
    }


async def compare(kind: Kind, count: int, rounds: int, names: list[str]) -> dict[str, object]:
    """All rounds, after one that is not counted: a JVM is slow until it has compiled itself."""
    events = Fleet(runs=RUNS, agents=AGENTS).take(count)
    found: list[dict[str, Figures]] = []
    with tempfile.TemporaryDirectory(prefix="marlin-bench-") as name:
        folder = Path(name)
        async with stage(kind, folder) as new_broker:
            if kind == "apache":
                print("warming up", file=sys.stderr)
                async with new_broker() as broker:
                    await one_round(broker, folder, events[: count // 2], ["marlin", "aiokafka"])
            for number in range(rounds):
                order = names if number % 2 == 0 else names[::-1]
                print(f"round {number + 1} of {rounds}", file=sys.stderr)
                async with new_broker() as broker:
                    found.append(await one_round(broker, folder, events, order))
    return {
        "broker": kind,
        "events": count,
        "event_bytes": statistics.mean(len(value) for _, value in events),
        "runs": RUNS,
        "agents": AGENTS,
        "partitions": 8,
        "shares": CONTESTANTS,
        "medians": medians(found),
        "rounds": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS))
    options = parser.parse_args()
    began = time.perf_counter()
    found = asyncio.run(compare(options.broker, options.events, options.rounds, options.only))
    print(json.dumps(found | {"took_s": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
