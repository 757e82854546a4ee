"""Kafka away under load: agents go on, and every event arrives once, also of killed processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from brokers import RunningBroker
from brokers.apache import ApacheKafka
from events import usage
from pipeline import eventually, read_all
from runtime_doubles import Emitted

from marlin.broker.cluster import create_topics
from marlin.runtime.link import KafkaLink, close_links, link_for
from marlin.runtime.producer import partition_of
from marlin.schemas import EVENT, Usage, dump
from marlin.settings import RuntimeSettings, Settings
from marlin.topics import Topics

RUNS = 4
TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def links_closed() -> Generator[None]:
    yield
    close_links()


def spilling(settings: Settings, **changes: float) -> Settings:
    runtime = RuntimeSettings(spill_after_s=0.2, reconnect_max_s=0.5).model_copy(update=changes)
    return settings.model_copy(update={"runtime": runtime})


class Load:
    """Threads that call a model again and again, each in a run of its own, until stopped."""

    def __init__(self, link: KafkaLink) -> None:
        self.emitted = dict.fromkeys((f"run-{number}" for number in range(RUNS)), 0)
        self._link = link
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(run,)) for run in self.emitted]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, run_id: str) -> None:
        while not self._stop.wait(0.002):
            event = usage(run_id, self.emitted[run_id], producer_id=f"producer of {run_id}")
            self._link.emit(Emitted(run_id, dump(event)))
            self.emitted[run_id] += 1


async def arrived(settings: Settings) -> Mapping[str, list[int]]:
    """The `seq` of each run's events in the order of their arrival, repeats dropped."""
    found: dict[str, dict[int, None]] = {}
    for record in await read_all(settings, Topics(settings.kafka.topic_prefix).events):
        event = EVENT.validate_json(record.value or b"")
        assert isinstance(event, Usage)
        assert record.partition == partition_of(event.run_id, settings.kafka.partitions)
        found.setdefault(event.run_id, {}).setdefault(event.seq)
    return {run_id: list(seqs) for run_id, seqs in found.items()}


def in_order(emitted: Mapping[str, int]) -> dict[str, list[int]]:
    return {run_id: list(range(count)) for run_id, count in emitted.items()}


async def all_delivered(link: KafkaLink) -> None:
    async def delivered() -> bool:
        return link.health().undelivered == 0

    await eventually(delivered)


async def grows(link: KafkaLink, load: Load) -> None:
    """Wait until agents have gone on and what they sent since lies on disk."""
    spilled, emitted = link.health().spilled, sum(load.emitted.values())

    async def more() -> bool:
        grown = link.health().spilled - spilled
        return grown > 500 and sum(load.emitted.values()) - emitted > 500

    await eventually(more)


@contextmanager
def suspended(broker: RunningBroker) -> Generator[None]:
    process = broker.process()
    process.suspend()
    try:
        yield
    finally:
        process.resume()


async def test_a_broker_that_stands_still_under_load_gets_everything(
    broker: RunningBroker, settings: Settings
) -> None:
    settings = spilling(settings)
    await create_topics(settings)
    link = link_for(settings)
    with Load(link) as load:
        await eventually(lambda: asyncio.to_thread(lambda: link.health().connected))
        await link.flush(60.0)
        with suspended(broker):
            await grows(link, load)
            file = link.health().spill_file
            assert file is not None
            assert file.stat().st_size > 500 * 100
            await grows(link, load)
    await all_delivered(link)

    assert await arrived(settings) == in_order(load.emitted)
    assert link.health().dropped == 0
    close_links()
    assert list(settings.spill_path.iterdir()) == []


async def test_a_broker_that_is_gone_under_load_gets_everything_when_it_is_back(
    apache_kafka: ApacheKafka, apache_settings: Settings
) -> None:
    settings = spilling(apache_settings)
    await create_topics(settings)
    link = link_for(settings)
    with Load(link) as load:
        await link.flush(60.0)
        await asyncio.to_thread(apache_kafka.kill)
        try:
            await grows(link, load)
        finally:
            await asyncio.to_thread(apache_kafka.start)
        await link.flush(60.0)
    await all_delivered(link)

    assert await arrived(settings) == in_order(load.emitted)
    assert link.health().dropped == 0


_DOOMED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from events import usage
from marlin.runtime.link import link_for
from marlin.schemas import dump
from marlin.settings import Settings
from runtime_doubles import Emitted

link = link_for(Settings.model_validate_json(sys.argv[1]))
for seq in range(3000):
    link.emit(Emitted("doomed", dump(usage("doomed", seq, producer_id="doomed"))))
while link.health().spilled < 3000:
    time.sleep(0.01)
print("spilled", flush=True)
time.sleep(600)
"""


async def test_what_a_killed_process_had_on_disk_is_delivered_by_the_next(
    broker: RunningBroker, settings: Settings
) -> None:
    settings = spilling(settings)
    await create_topics(settings)
    with suspended(broker):
        doomed = subprocess.Popen(
            [sys.executable, "-c", _DOOMED, settings.model_dump_json(), str(TESTS)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert doomed.stdout is not None
        assert await asyncio.to_thread(doomed.stdout.readline) == "spilled\n"
        doomed.kill()
        doomed.communicate()
    (left,) = settings.spill_path.iterdir()

    link = link_for(settings)
    link.emit(Emitted("next", dump(usage("next", 0))))

    async def taken_over() -> bool:
        return not left.exists()

    await eventually(taken_over)
    await all_delivered(link)
    assert await arrived(settings) == in_order({"doomed": 3000, "next": 1})
