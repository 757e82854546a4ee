"""Spans of OpenTelemetry SDK processes on a real broker, metered by a real worker."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from otel_spans import as_json, as_proto, chat, span
from pipeline import PipelineProcess, eventually, read_all, unique_carbon, worker

from marlin.broker.cluster import connect, create_topics
from marlin.errors import ConfigurationError
from marlin.schemas import DeadLetter, Usage
from marlin.settings import OtelSettings, Settings
from marlin.streams.otel.clients import prepare
from marlin.streams.otel.splitting import split_spans
from marlin.topics import Topics

AGENTS = Path(__file__).parents[1] / "otel_agents.py"

Ledger = dict[str, list[int]]


def reading_spans(settings: Settings, **changes: float) -> Settings:
    """The same with spans read from a topic of the test's own."""
    otel = OtelSettings(
        enabled=True,
        topics=(f"{settings.kafka.topic_prefix}otlp_spans",),
        **{"hold_back_s": 3.0, **changes},  # type: ignore[arg-type]
    )
    return settings.model_copy(update={"otel": otel})


async def topic_exists(settings: Settings) -> bool:
    """Whether the worker has made the topic of spans."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        return settings.otel.topics[0] in await admin.list_topics()
    finally:
        await admin.close()


async def agents(settings: Settings, encoding: str, *, runs: int, seed: int) -> Ledger:
    """A process of traced agents; returns what they really used."""
    arguments = [settings.kafka.bootstrap_servers or "", settings.otel.topics[0]]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(AGENTS), *arguments, encoding, str(runs), str(seed)),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(said)  # type: ignore[no-any-return]


async def write(settings: Settings, values: Sequence[bytes | None]) -> None:
    """As the Collector does, each to the next partition."""
    producer = AIOKafkaProducer(**(await connect(settings)).producer_options())
    await producer.start()
    try:
        for number, value in enumerate(values):
            partition = number % settings.kafka.partitions
            await producer.send_and_wait(
                settings.otel.topics[0], value, key=b"a key", partition=partition
            )
    finally:
        await producer.stop()


async def usages(settings: Settings) -> list[Usage]:
    """What was counted."""
    return [carbon.usage for carbon in await unique_carbon(settings)]


def sums(found: Iterable[Usage]) -> Ledger:
    ledger: Ledger = {}
    for usage in found:
        totals = ledger.setdefault(usage.run_id, [0, 0, 0])
        totals[0] += 1
        totals[1] += usage.input_tokens
        totals[2] += usage.output_tokens
    return ledger


async def test_traced_agents_are_metered_once_though_every_layer_repeats_their_tokens(
    settings: Settings,
) -> None:
    settings = reading_spans(settings)
    async with worker(settings):
        await eventually(lambda: topic_exists(settings))
        used = {
            **await agents(settings, "otlp_proto", runs=6, seed=1),
            **await agents(settings, "otlp_json", runs=6, seed=2),
        }
        calls = sum(totals[0] for totals in used.values())

        async def all_counted() -> bool:
            return len(await usages(settings)) >= calls

        await eventually(all_counted)
        before = await read_all(settings, settings.otel.topics[0])
        # Everything once more, in another order: nothing of it is new.
        again = [record.value for record in before]
        random.Random(3).shuffle(again)
        await write(settings, [*again, as_proto([chat(1, trace=7, marlin__run_id="last")])])

        async def last_counted() -> bool:
            return "last" in sums(await usages(settings))

        await eventually(last_counted)

    found = await usages(settings)
    assert sums(found) == {**used, "last": [1, 100, 10]}
    assert len({usage.event_id for usage in found}) == calls + 1
    assert Counter(usage.agent_id for usage in found).keys() == {"researcher", "writer", "default"}
    assert {(usage.region, usage.project) for usage in found} == {
        ("DE", "agents"),
        ("eu-west-1", "agents"),
    }
    assert await read_all(settings, Topics(settings.kafka.topic_prefix).deadletter) == []


async def test_a_worker_killed_in_between_ends_exact(settings: Settings, tmp_path: Path) -> None:
    settings = reading_spans(settings)
    await create_topics(settings)
    log = tmp_path / "worker.log"
    used: Ledger = {}
    for seed in (10, 11):
        process = PipelineProcess("worker", settings, log)
        await eventually(lambda: topic_exists(settings))
        before = len(await usages(settings))
        sending = asyncio.create_task(agents(settings, "otlp_proto", runs=8, seed=seed))

        async def grown(before: int = before) -> bool:
            return len(await usages(settings)) > before

        await eventually(grown)
        process.kill()
        used |= await sending
    calls = sum(totals[0] for totals in used.values())

    async def all_counted() -> bool:
        return len(await usages(settings)) >= calls

    async with worker(settings):
        await eventually(all_counted)
    assert sums(await usages(settings)) == used


async def test_bad_records_are_dead_letters_and_stop_nothing(settings: Settings) -> None:
    settings = reading_spans(settings, hold_back_s=0.5)
    half_bad = as_json([chat(1, marlin__run_id="good"), chat(2, tokens=(-1, 1))])
    values = [
        *(b"junk", half_bad, None, b'{"resourceLogs":[]}', as_proto([span(3)]), b""),
        as_proto([chat(4, trace=2, tokens=None, marlin__run_id="missing")]),
    ]
    async with worker(settings):
        await eventually(lambda: topic_exists(settings))
        await write(settings, values)

        async def counted() -> bool:
            return sums(await usages(settings)).keys() == {"good", "missing"}

        await eventually(counted)
        letters = await read_all(settings, Topics(settings.kafka.topic_prefix).deadletter)

    why = {letter.value: DeadLetter.from_headers(letter.headers) for letter in letters}
    assert why.keys() == {b"junk", half_bad, None, b'{"resourceLogs":[]}'}
    assert [why[value].step for value in (b"junk", half_bad)] == ["decode", "validate"]
    assert f"span {2:016x} of trace {1:032x}: gen_ai.usage.input_tokens is -1" in (
        why[half_bad].reason
    )
    assert why[None].reason == "expected OTLP traces, found no value (a tombstone)"
    assert {letter.topic for letter in why.values()} == {settings.otel.topics[0]}
    assert {letter.key for letter in letters} == {b"a key"}
    assert {usage.run_id: usage.usage_quality for usage in await usages(settings)} == {
        "good": "reported",
        "missing": "missing",
    }


async def test_a_codec_that_is_not_installed_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = reading_spans(settings)
    cluster = await connect(settings)
    await prepare(settings, cluster)
    options = cluster.producer_options()
    async with AIOKafkaProducer(**options, compression_type="gzip") as producer:
        await producer.send_and_wait(settings.otel.topics[0], as_proto([chat(1)]))
    monkeypatch.setattr("aiokafka.codec.has_gzip", lambda: False)

    with pytest.raises(ConfigurationError, match=r"gzip.*set the exporter's compression to gzip"):
        await asyncio.wait_for(split_spans(settings, cluster), timeout=60)


async def test_an_internal_topic_that_was_deleted_begins_anew(apache_settings: Settings) -> None:
    settings = reading_spans(apache_settings, hold_back_s=0.5)
    internal = Topics(settings.kafka.topic_prefix).spans
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()

    async def is_gone() -> bool:
        return internal not in await admin.list_topics()

    try:
        for number in (1, 2):
            async with worker(settings):
                await eventually(lambda: topic_exists(settings))
                await write(settings, [as_proto([chat(number, marlin__run_id="run")])])

                async def counted(number: int = number) -> bool:
                    return len(await usages(settings)) == number

                await eventually(counted)
            await admin.delete_topics([internal])
            await eventually(is_gone)
    finally:
        await admin.close()
    # The same offset twice, in two logs of one name.
    first, second = await usages(settings)
    assert (first.seq, second.seq) == (0, 0)
    assert first.producer_id.rpartition(":")[0] == second.producer_id.rpartition(":")[0]
    assert first.producer_id != second.producer_id
