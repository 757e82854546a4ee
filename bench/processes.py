"""Processes that are measured: `marlin worker`, and the peers in their own environment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
from machine import MEASURED, ROOT, Broker
from traffic import led

from marlin.broker.cluster import create_topics
from marlin.settings import KafkaSettings, Settings, WorkerSettings
from marlin.topics import Topics

__all__ = ["new_settings", "peer", "worker"]

PEERS_PYTHON = ROOT / ".venv-bench/bin/python"


async def new_settings(broker: Broker, folder: Path, *, partitions: int = 8) -> Settings:
    """Settings with topics of their own, created empty on `broker`."""
    settings = Settings(
        home=folder / "home",
        kafka=KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            topic_prefix=f"b{uuid.uuid4().hex[:6]}.",
            partitions=partitions,
        ),
        worker=WorkerSettings(),
    )
    await create_topics(settings)
    for topic in Topics(settings.kafka.topic_prefix).by_run():
        await led(settings, topic)
    return settings


@asynccontextmanager
async def worker(
    settings: Settings, folder: Path, *, cores: list[int] = MEASURED
) -> AsyncGenerator[psutil.Process]:
    """`marlin worker` on `cores`, ready when the block begins and stopped after it."""
    name = uuid.uuid4().hex[:6]
    ready, log = folder / f"{name}.ready", folder / f"worker-{name}.log"
    kafka = settings.kafka
    environment = {
        "MARLIN_HOME": str(settings.home),
        "MARLIN_KAFKA__BOOTSTRAP_SERVERS": str(kafka.bootstrap_servers),
        "MARLIN_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "MARLIN_KAFKA__PARTITIONS": str(kafka.partitions),
    }
    command = [sys.executable, "-m", "marlin.cli", "worker", "--log-level", "warning"]
    command += ["--ready-file", str(ready)]
    with _running(command, log, cores, environment) as process:
        deadline = time.perf_counter() + 120
        while not ready.exists():
            if process.poll() is not None or time.perf_counter() > deadline:
                raise RuntimeError(f"the worker did not become ready:\n{_end_of(log)}")
            await asyncio.sleep(0.02)
        yield psutil.Process(process.pid)


@contextmanager
def peer(
    script: str, spec: dict[str, Any], folder: Path, *, cores: list[int] = MEASURED
) -> Generator[tuple[psutil.Process, Path]]:
    """A peer's script with `spec`, on `cores`; yields it and the file with what it prints."""
    log = folder / f"{Path(script).stem}-{uuid.uuid4().hex[:6]}.log"
    command = [str(PEERS_PYTHON), str(ROOT / "bench" / script), json.dumps(spec)]
    with _running(command, log, cores, {"PYTHONWARNINGS": "ignore"}) as process:
        yield psutil.Process(process.pid), log


@contextmanager
def _running(
    command: list[str], log: Path, cores: list[int], environment: dict[str, str]
) -> Generator[subprocess.Popen[bytes]]:
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            pinned, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
