"""The worker on a real broker: events in; carbon, commands, dead letters and exact totals out."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from events import NOW, raw, started, usage
from pipeline import (
    PipelineProcess,
    carbon_records,
    commands,
    eventually,
    produce,
    read_all,
    unique_carbon,
    worker,
)

from marlin.broker.cluster import create_topics
from marlin.estimation import default_estimator
from marlin.schemas import Carbon, DeadLetter, RunStarted, Usage, command_id, dump
from marlin.settings import Settings
from marlin.streams.partition import Partition
from marlin.topics import Topics

Event = Usage | RunStarted


def keyed(event: Event) -> tuple[bytes, bytes]:
    return event.run_id.encode(), dump(event)


def load(runs: int, calls: int, *, seed: int = 7) -> list[Event]:
    """`calls` calls of `runs` runs, interleaved; every fourth run breaches its budget."""
    rng = random.Random(seed)
    events: list[Event] = [
        started(f"run-{n}", carbon_budget_g=0.01 if n % 4 == 0 else 1e6) for n in range(runs)
    ]
    next_seq: Counter[str] = Counter()
    for _ in range(calls):
        run_id = f"run-{rng.randrange(runs)}"
        events.append(
            usage(
                run_id,
                seq=next_seq[run_id],
                agent_id=rng.choice(["planner", "writer", "critic"]),
                model=rng.choice(["gpt-4o", "small-7b", "large-70b"]),
                input_tokens=rng.randrange(1, 8000),
                output_tokens=rng.randrange(1, 1500),
            )
        )
        next_seq[run_id] += 1
    return events


def check_exact(sent: Sequence[Event], found: Sequence[Carbon]) -> None:
    """Every usage sent is found once, run by run with exact token sums."""

    def sums(events: Iterable[Usage]) -> dict[str, tuple[int, int, int]]:
        totals: dict[str, tuple[int, int, int]] = {}
        for event in events:
            calls, tokens_in, tokens_out = totals.get(event.run_id, (0, 0, 0))
            totals[event.run_id] = (
                calls + 1,
                tokens_in + event.input_tokens,
                tokens_out + event.output_tokens,
            )
        return totals

    assert sums(one.usage for one in found) == sums(e for e in sent if isinstance(e, Usage))


async def run_table(settings: Settings) -> dict[str, Partition]:
    """The run table as a new worker would recover it, by run."""
    await create_topics(settings)
    tables: dict[int, Partition] = {}
    for record in await read_all(settings, Topics(settings.kafka.topic_prefix).runs):
        table = tables.setdefault(
            record.partition, Partition("events", record.partition, estimator=default_estimator())
        )
        table.recover(record.key or b"", record.value, now=NOW)
    return {run_id: table for table in tables.values() for run_id in table.runs}


async def all_counted(settings: Settings, count: int) -> bool:
    return len(await unique_carbon(settings)) >= count


async def test_events_become_carbon_records_on_their_own_partition(settings: Settings) -> None:
    events = load(runs=12, calls=300)
    topics = Topics(settings.kafka.topic_prefix)

    async with worker(settings):
        await produce(settings, map(keyed, events))
        await eventually(lambda: all_counted(settings, 300))

    found = await carbon_records(settings)
    assert len(found) == len(events), "one derived record for every event, lifecycle included"
    check_exact(events, [record for record in found if record.type == "carbon"])
    homes = {r.key: r.partition for r in await read_all(settings, topics.events)}
    for topic in (topics.carbon, topics.commands, topics.runs):
        assert all(
            homes[record.key] == record.partition
            for record in await read_all(settings, topic)
            if record.key
        )


async def test_only_breached_runs_are_aborted_and_once_each(settings: Settings) -> None:
    async with worker(settings):
        await produce(settings, map(keyed, load(runs=12, calls=300)))
        await eventually(lambda: all_counted(settings, 300))

    sent = await commands(settings)
    assert sorted(command.run_id for command in sent) == ["run-0", "run-4", "run-8"]
    for command in sent:
        assert command.command_id == command_id(command.run_id, "carbon_budget_exceeded")
        assert command.spent_g is not None
        assert command.spent_g > 0.01


async def test_hostile_records_become_dead_letters_and_the_good_ones_count(
    settings: Settings,
) -> None:
    good = load(runs=3, calls=60)
    big = b'{"type":"usage","task":"' + b"x" * 2_000_000 + b'"}'
    hostile: list[tuple[bytes | None, bytes | None]] = [
        (b"run-1", b"not json"),
        (b"run-1", raw(input_tokens="12").value),
        (b"run-1", raw(input_tokens=-5).value),
        (b"run-1", raw(output_tokens=10**15).value),
        (b"run-1", raw(surprise=True).value),
        (None, raw().value),
        (b"another", raw().value),
        (b"run-1", big),
        (b"run-1", None),
    ]
    mixed = [keyed(event) for event in good]
    for index, record in enumerate(hostile):
        mixed.insert(7 * index + 3, record)  # type: ignore[arg-type]

    topics = Topics(settings.kafka.topic_prefix)
    async with worker(settings):
        await produce(settings, mixed)
        await eventually(lambda: all_counted(settings, 60))
        letters = await read_all(settings, topics.deadletter)

    check_exact(
        good, [record for record in await carbon_records(settings) if record.type == "carbon"]
    )
    assert Counter((letter.key, letter.value) for letter in letters) == Counter(hostile)
    steps = {letter.value: DeadLetter.from_headers(letter.headers) for letter in letters}
    assert steps[b"not json"].step == "decode"
    assert steps[big].step == "size"
    assert steps[None].reason == "expected a JSON event, found no value (a tombstone)"
    assert all(why.topic == topics.events for why in steps.values())


async def test_a_stopped_worker_goes_on_where_it_ended(settings: Settings) -> None:
    events = load(runs=10, calls=400)

    async with worker(settings):
        await produce(settings, map(keyed, events[:200]))
        await eventually(lambda: all_counted(settings, 150))
    async with worker(settings):
        await produce(settings, map(keyed, events[200:]))
        await eventually(lambda: all_counted(settings, 400))

    check_exact(events, await unique_carbon(settings))
    table = await run_table(settings)
    calls = sum(table[run_id].runs[run_id].totals.calls for run_id in table)
    assert calls == 400
    assert len(await commands(settings)) == len({c.command_id for c in await commands(settings)})


@pytest.mark.timeout(300)
async def test_a_worker_killed_under_load_ends_exact(settings: Settings, tmp_path: Path) -> None:
    events = load(runs=40, calls=20_000)
    sending = asyncio.create_task(send_slowly(settings, events))
    log = tmp_path / "worker.log"
    for _ in range(3):
        process = PipelineProcess("worker", settings, log)
        before = len(await carbon_or_none(settings))
        await eventually(lambda: grown(settings, before))  # noqa: B023
        process.kill()
    await sending

    process = PipelineProcess("worker", settings, log)
    await eventually(lambda: all_counted(settings, 20_000), within_s=120)
    assert process.stop() == 0

    check_exact(events, await unique_carbon(settings))
    table = await run_table(settings)
    for run_id, partition in table.items():
        run = partition.runs[run_id]
        sent = [e for e in events if isinstance(e, Usage) and e.run_id == run_id]
        assert run.totals.calls == len(sent)
        assert run.totals.input_tokens == sum(event.input_tokens for event in sent)
        assert {name: totals.calls for name, totals in run.agents.items()} == Counter(
            event.agent_id for event in sent
        )
    assert {command.run_id for command in await commands(settings)} == {
        f"run-{n}" for n in range(0, 40, 4)
    }


async def send_slowly(settings: Settings, events: list[Event]) -> None:
    for start in range(0, len(events), 500):
        await produce(settings, map(keyed, events[start : start + 500]))
        await asyncio.sleep(0.5)


async def carbon_or_none(settings: Settings) -> list[Carbon]:
    await create_topics(settings)
    return list(await unique_carbon(settings))


async def grown(settings: Settings, before: int) -> bool:
    return len(await unique_carbon(settings)) > before + 200


@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.8, 1.4])
async def test_a_worker_that_is_stopped_while_it_starts_ends(
    settings: Settings, tmp_path: Path, after_s: float
) -> None:
    worker_process = PipelineProcess("worker", settings, tmp_path / "worker.log")
    worker_process.wait_until_stoppable()
    await asyncio.sleep(after_s)

    assert await asyncio.to_thread(worker_process.stop, within_s=60) == 0
