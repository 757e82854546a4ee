"""How soon an abort arrives: from the breaching event to the command, and to the acknowledgement.

    python bench/latency.py [--broker apache|embedded] [--loads 0 20000 100000] [--probes 3000]

Probes are events of runs whose budget the first call breaches. Three kinds go by turns:

- `probe`: sent and read by bare clients with the SDK's settings; then it is acknowledged.
- `floor`: a record of the same size through two bare hops: a bare consumer in the worker's place,
  on the same topic with the same load, and the same clients as above on both ends.
- `agent`: the SDK as it is, from `record` in the agent's thread to the run being told to stop.

Broker, worker, floor, load and this prober share both cores. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from machine import BOTH, ROOT, Broker, pin, running
from processes import new_settings, worker
from traffic import count_records, create_topic

from marlin.estimation import default_estimator
from marlin.runtime import RunStatus, TokenUsage
from marlin.runtime.link import EMBEDDED_FETCH_WAIT_MS, KafkaLink, close_links, link_for
from marlin.runtime.run import Run
from marlin.schemas import AbortAcknowledged, Policy, RunStarted, Usage, dump
from marlin.settings import Settings
from marlin.topics import Topics

BETWEEN_S = (0.003, 0.007)
"""Between one probe and the next, by chance [s]."""

LOST_AFTER_S = 20.0
WARM_UP = 100


TOKENS = TokenUsage(input_tokens=1200, output_tokens=300)
POLICY = Policy(carbon_budget_g=1e-9)
"""Any call breaches it."""


class Agents:
    """Runs of the SDK that do not enforce their budgets themselves: they wait to be told."""

    def __init__(self, settings: Settings, run_ids: list[str]) -> None:
        self._link: KafkaLink = link_for(settings)
        self._runs: dict[str, Run] = {}
        self._sent: dict[str, float] = {}
        self.stopped_s: dict[str, float] = {}
        """From `record` to the run being told to stop, by run [s]."""
        for run_id in run_ids:
            run = Run(run_id, POLICY, default_estimator(), sink=self._link, local_enforcement=False)
            run.when_stopped(lambda run_id=run_id: self._stopped(run_id))
            self._link.open(run)
            run.start(None)
            self._runs[run_id] = run

    def probe(self, run_id: str) -> None:
        """Record one call."""
        self._sent[run_id] = time.perf_counter()
        self._runs[run_id].record(
            TOKENS, agent_id="writer", model="gpt-4o", provider="openai", region="us-east-1"
        )

    def _stopped(self, run_id: str) -> None:
        self.stopped_s[run_id] = time.perf_counter() - self._sent[run_id]

    def end(self) -> None:
        """Finish the runs, which acknowledges their commands."""
        for run in self._runs.values():
            run.finish(RunStatus.ABORTED, None)
            self._link.close(run)
        close_links()


class Prober:
    """Sends probes, and notes when their answers are read."""

    def __init__(self, settings: Settings, *, embedded: bool) -> None:
        self._topics = Topics(settings.kafka.topic_prefix)
        self._partitions = settings.kafka.partitions
        self.floor_topic = f"{settings.kafka.topic_prefix}floor"
        servers = settings.kafka.bootstrap_servers
        wait_ms = EMBEDDED_FETCH_WAIT_MS if embedded else settings.runtime.fetch_max_wait_ms
        self._producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=0)
        # One consumer for each kind, so that neither waits for the other's fetches.
        self._consumers = {
            topic: AIOKafkaConsumer(
                bootstrap_servers=servers, fetch_max_wait_ms=wait_ms, auto_offset_reset="latest"
            )
            for topic in (self._topics.commands, self.floor_topic)
        }
        self._sent: dict[str, float] = {}
        self._reading: list[asyncio.Task[None]] = []
        self.read_s: dict[str, float] = {}
        """From send to command or floor record read, by key [s]."""
        self.acknowledged_s: dict[str, float] = {}
        """From send to the acknowledgement being durable, by run [s]."""

    async def start(self) -> None:
        """Connect, and follow both topics from their ends."""
        await self._producer.start()
        for topic, consumer in self._consumers.items():
            await consumer.start()
            partitions = [TopicPartition(topic, n) for n in range(self._partitions)]
            consumer.assign(partitions)
            for tp in partitions:
                await consumer.position(tp)
            self._reading.append(asyncio.create_task(self._read(consumer)))

    async def stop(self) -> None:
        """Disconnect."""
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        for client in (*self._consumers.values(), self._producer):
            await client.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        acknowledging: set[asyncio.Task[None]] = set()
        while True:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    key = (record.key or b"").decode()
                    sent = self._sent.get(key)
                    if sent is None or key in self.read_s:
                        continue
                    self.read_s[key] = time.perf_counter() - sent
                    if key.startswith("probe-"):
                        task = asyncio.create_task(
                            self._acknowledge(key, record.value or b"", sent)
                        )
                        acknowledging.add(task)
                        task.add_done_callback(acknowledging.discard)

    async def _acknowledge(self, run_id: str, command: bytes, sent: float) -> None:
        value = AbortAcknowledged(
            run_id=run_id,
            command_id=json.loads(command)["command_id"],
            outcome="stopped",
            stopped_at=datetime.now(UTC),
            overshoot_g=0.0,
        )
        await self._send(run_id, dump(value))
        self.acknowledged_s[run_id] = time.perf_counter() - sent

    async def announce(self, run_ids: list[str]) -> None:
        """Start the runs of the probes."""
        for run_id in run_ids:
            started = RunStarted(run_id=run_id, time=datetime.now(UTC), policy=POLICY)
            await self._send(run_id, dump(started), wait=run_id == run_ids[-1])

    async def probe(self, key: str) -> None:
        """Send one, and note when."""
        usage = Usage(
            event_id=f"{key}-0",
            run_id=key,
            agent_id="writer",
            producer_id="probe",
            seq=0,
            time=datetime.now(UTC),
            provider="openai",
            model="gpt-4o",
            region="us-east-1",
            input_tokens=1200,
            output_tokens=300,
        )
        value = dump(usage)
        self._sent[key] = time.perf_counter()
        await self._send(key, value, wait=False)

    async def _send(self, key: str, value: bytes, *, wait: bool = True) -> None:
        sending = await self._producer.send(self._topics.events, value, key=key.encode())
        if wait:
            await sending


@asynccontextmanager
async def script(name: str, spec: dict[str, Any]) -> AsyncGenerator[subprocess.Popen[str]]:
    """`bench/NAME` with `spec`, ready when the block begins, ended after it."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bench" / name), json.dumps(spec)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        first = await asyncio.to_thread(process.stdout.readline)
        if first.strip() != "ready":
            raise RuntimeError(f"{name} did not become ready, it said {first!r}")
        yield process
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def at_load(broker: Broker, folder: Path, rate: int, probes: int) -> dict[str, object]:
    """Latencies with `rate` events a second in the background."""
    settings = await new_settings(broker, folder)
    topics = Topics(settings.kafka.topic_prefix)
    prober = Prober(settings, embedded=broker.kind == "embedded")
    await create_topic(settings, prober.floor_topic)
    common: dict[str, Any] = {
        "bootstrap": broker.bootstrap_servers,
        "prefix": settings.kafka.topic_prefix,
        "partitions": settings.kafka.partitions,
        "source": topics.events,
        "out": prober.floor_topic,
    }
    seconds = 15 + 3.5 * (probes + WARM_UP) * sum(BETWEEN_S) / 2
    async with (
        worker(settings, folder, cores=BOTH),
        script("relay.py", common),
        script("load.py", common | {"rate": rate, "seconds": seconds if rate else 0}) as load,
    ):
        await prober.start()
        try:
            names = [f"{number}" for number in range(WARM_UP + probes)]
            agents = Agents(settings, [f"agent-{name}" for name in names])
            await prober.announce([f"probe-{name}" for name in names])
            assert load.stdin is not None
            load.stdin.write("go\n")
            load.stdin.flush()
            await asyncio.sleep(3.0)  # until the load is steady
            found = await _probe(prober, agents, names)
            found["load"] = await _end(load)
            found["lag_events"] = await _lag(settings, topics)
            await asyncio.to_thread(agents.end)
        finally:
            await prober.stop()
    return {"asked_per_s": rate, **found}


async def _probe(prober: Prober, agents: Agents, names: list[str]) -> dict[str, object]:
    chance = random.Random(1)
    for name in names:
        for send in (
            lambda name=name: prober.probe(f"probe-{name}"),
            lambda name=name: prober.probe(f"floor-{name}"),
            lambda name=name: asyncio.to_thread(agents.probe, f"agent-{name}"),
        ):
            await send()
            await asyncio.sleep(chance.uniform(*BETWEEN_S))
    deadline = time.perf_counter() + LOST_AFTER_S
    while time.perf_counter() < deadline and not (
        len(prober.acknowledged_s) == len(agents.stopped_s) == len(names)
    ):
        await asyncio.sleep(0.1)

    def of(kind: str, seconds: dict[str, float]) -> dict[str, float]:
        keys = [f"{kind}-{name}" for name in names[WARM_UP:]]
        return percentiles([seconds[key] for key in keys if key in seconds])

    return {
        "probes": len(names) - WARM_UP,
        "lost": 2 * len(names) - len(prober.acknowledged_s) - len(agents.stopped_s),
        "command_ms": of("probe", prober.read_s),
        "acknowledged_ms": of("probe", prober.acknowledged_s),
        "agent_ms": of("agent", agents.stopped_s),
        "floor_ms": of("floor", prober.read_s),
    }


async def _end(load: subprocess.Popen[str]) -> dict[str, object]:
    load.terminate()
    assert load.stdout is not None
    said = await asyncio.to_thread(load.stdout.read)
    return json.loads(said.splitlines()[-1])


async def _lag(settings: Settings, topics: Topics) -> int:
    """Events that the worker has not answered yet, right after the load's end."""
    carbon = await count_records(settings, topics.carbon)
    events = await count_records(settings, topics.events)
    floor = await count_records(settings, f"{settings.kafka.topic_prefix}floor")
    return max(0, events - floor - carbon)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99, p99.9 and the largest [ms]; exact ranks, nothing is interpolated."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    found = {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3
        for name, share in shares.items()
    }
    return found | {"max": ordered[-1] * 1e3}


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Every load, each on a broker of its own."""
    found: list[dict[str, object]] = []
    for rate in options.loads:
        with tempfile.TemporaryDirectory(prefix="marlin-bench-") as name:
            async with running(options.broker, Path(name)) as broker:
                pin(os.getpid(), BOTH)
                pin(broker.process.pid, BOTH)
                found.append(await at_load(broker, Path(name), rate, options.probes))
        print(f"  {json.dumps(found[-1])}", file=sys.stderr)
    return {"broker": options.broker, "loads": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--loads", nargs="*", type=int, default=[0, 20_000, 100_000])
    parser.add_argument("--probes", type=int, default=3000)
    options = parser.parse_args()
    began = time.perf_counter()
    found = uvloop.run(measure(options))
    print(json.dumps(found | {"took_s": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
