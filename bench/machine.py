"""The machine that benchmarks run on: its cores, and the brokers started on it.

Processes that are measured run on core 0, brokers and this harness on core 1, unless a benchmark
says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from brokers.apache import ApacheKafka  # noqa: E402  from the tests' folder

from marlin.broker.embedded import EmbeddedBroker  # noqa: E402

__all__ = [
    "BOTH",
    "MEASURED",
    "ROOT",
    "THE_OTHER",
    "Broker",
    "Kind",
    "describe",
    "pin",
    "running",
    "stage",
]

Kind = Literal["apache", "embedded"]

CORES = sorted(os.sched_getaffinity(0))
MEASURED = CORES[:1]
THE_OTHER = CORES[1:2] or CORES[:1]
BOTH = CORES[:2]

# A JVM that starts on one core takes its smallest configuration for the rest of its life.
_JVM = "-XX:ActiveProcessorCount=2"


@dataclass(frozen=True)
class Broker:
    """A broker that runs for a benchmark."""

    kind: Kind
    bootstrap_servers: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor time it has taken [s]."""
        times = self.process.cpu_times()
        return times.user + times.system


NewBroker = Callable[[], AbstractAsyncContextManager[Broker]]


def pin(pid: int, cores: list[int]) -> None:
    """Keep a process, all its threads, on `cores`; children it starts later inherit that."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


@asynccontextmanager
async def running(kind: Kind, folder: Path) -> AsyncGenerator[Broker]:
    """A broker on `THE_OTHER` core, empty at first, its files in `folder`."""
    pin(os.getpid(), THE_OTHER)
    before = set(psutil.Process().children())
    if kind == "apache":
        os.environ["JAVA_TOOL_OPTIONS"] = _JVM
        kafka = await asyncio.to_thread(ApacheKafka, folder)
        await asyncio.to_thread(kafka.start)
        try:
            yield Broker(kind, kafka.bootstrap_servers, _new_child(before))
        finally:
            await asyncio.to_thread(kafka.stop)
    else:
        async with EmbeddedBroker(log=folder / "broker.log") as broker:
            yield Broker(kind, broker.bootstrap_servers, _new_child(before))


@asynccontextmanager
async def stage(kind: Kind, folder: Path) -> AsyncGenerator[NewBroker]:
    """Brokers for many measurements: Apache Kafka is one for all of them, the embedded broker,
    which keeps everything in memory, is new for each."""
    if kind == "apache":
        async with running(kind, folder) as broker:
            yield lambda: contextlib.nullcontext(broker)
    else:
        yield lambda: running(kind, folder)


def _new_child(before: set[psutil.Process]) -> psutil.Process:
    (child,) = set(psutil.Process().children()) - before
    return child


def describe() -> dict[str, object]:
    """What figures depend on besides the code."""
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
    return {
        "processor": model,
        "cores": len(CORES),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
