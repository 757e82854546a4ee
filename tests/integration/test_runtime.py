"""Runs and Kafka: events out in order, commands in, acknowledgements back, broker gone and back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pipeline import PipelineProcess, carbon_records, commands, eventually, produce, read_all

from marlin.broker.cluster import connect, create_topics
from marlin.broker.embedded import EmbeddedBroker
from marlin.broker.running import announced
from marlin.errors import CarbonBudgetExceededError
from marlin.runtime import AgentContext, MeshFlow, RunResult, RunStatus
from marlin.runtime.link import close_links, link_for
from marlin.runtime.outgoing import Announcement
from marlin.runtime.producer import partition_of
from marlin.schemas import (
    EVENT,
    AbortAcknowledged,
    Command,
    Event,
    Lifecycle,
    RunFinished,
    RunStarted,
    Usage,
    command_id,
    dump,
)
from marlin.settings import KafkaSettings, Settings
from marlin.topics import Topics

REASON = "carbon_budget_exceeded"


@pytest.fixture(autouse=True)
def links_closed() -> Generator[None]:
    yield
    close_links()


async def one_call(ctx: AgentContext) -> str:
    return (await ctx.call_model(f"{ctx.agent_id}: {ctx.task}")).text


def mesh_on(
    settings: Settings,
    carbon_budget_g: float | None = None,
    *,
    local_enforcement: bool = True,
    agents: int = 3,
    command_grace_s: float = 60.0,
) -> MeshFlow:
    return MeshFlow(
        mock=True,
        default_model="large-70b",
        region="us-east-1",
        settings=settings,
        carbon_budget_g=carbon_budget_g,
        local_enforcement=local_enforcement,
        preflight=False,  # breaches are to happen
        command_grace_s=command_grace_s,
        flush_timeout_s=60.0,
        agents={f"a{number}": one_call for number in range(agents)},
    )


async def events_of(settings: Settings, run_id: str) -> list[Event]:
    records = await read_all(settings, Topics(settings.kafka.topic_prefix).events)
    events = [EVENT.validate_json(record.value or b"") for record in records]
    for record, event in zip(records, events, strict=True):
        assert record.key == event.run_id.encode()
        assert record.partition == partition_of(event.run_id, settings.kafka.partitions)
    return [event for event in events if event.run_id == run_id]


def budget_command(run_id: str, reason: str = REASON) -> Command:
    return Command(
        command_id=command_id(run_id, reason),
        run_id=run_id,
        action="abort",
        reason=reason,
        issued_at=datetime.now(UTC),
    )


async def publish(settings: Settings, *issued: Command) -> None:
    """Send commands as a worker does: to their runs' partitions."""
    producer = AIOKafkaProducer(**(await connect(settings)).producer_options())
    await producer.start()
    try:
        for command in issued:
            await producer.send_and_wait(
                Topics(settings.kafka.topic_prefix).commands,
                dump(command),
                key=command.run_id.encode(),
                partition=partition_of(command.run_id, settings.kafka.partitions),
            )
    finally:
        await producer.stop()


@asynccontextmanager
async def commands_by_hand(settings: Settings) -> AsyncGenerator[list[str]]:
    """A worker in three lines: the first usage of a run leads to its command, sent twice."""
    await create_topics(settings)
    consumer = AIOKafkaConsumer(
        Topics(settings.kafka.topic_prefix).events,
        **(await connect(settings)).client_options(),
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    commanded: list[str] = []

    async def work() -> None:
        async for record in consumer:
            event = EVENT.validate_json(record.value or b"")
            if isinstance(event, Usage) and event.run_id not in commanded:
                commanded.append(event.run_id)
                await publish(settings, *[budget_command(event.run_id)] * 2)

    await consumer.start()
    working = asyncio.create_task(work())
    try:
        yield commanded
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        await consumer.stop()


async def test_a_run_is_one_ordered_log(settings: Settings) -> None:
    result = await mesh_on(settings).run(task="tides", run_id="run-1")

    started, *usages, finished = await events_of(settings, "run-1")
    assert isinstance(started, RunStarted)
    assert started.task == "tides"
    assert [event.seq for event in usages if isinstance(event, Usage)] == [0, 1, 2]
    assert isinstance(finished, RunFinished)
    assert (finished.status, result.status) == ("completed", "completed")


async def test_many_runs_at_once_lose_and_mix_nothing(settings: Settings) -> None:
    mesh = mesh_on(settings)

    results = await asyncio.gather(*(mesh.run(task=str(number)) for number in range(40)))

    records = await read_all(settings, Topics(settings.kafka.topic_prefix).events)
    assert len(records) == 40 * 5
    for result in results:
        types = [event.type for event in await events_of(settings, result.run_id)]
        assert types == ["run.started", "usage", "usage", "usage", "run.finished"]


async def test_a_command_alone_stops_a_run(settings: Settings) -> None:
    mesh = mesh_on(settings, 0.001, local_enforcement=False)

    async with commands_by_hand(settings):
        # What was published before a run began is not for it.
        await publish(settings, budget_command("run-0", "operator"))
        for number in range(6):
            run_id = f"run-{number}"
            result = await mesh.run(task="tides", run_id=run_id)

            assert (result.status, result.reason) == (RunStatus.ABORTED, REASON)
            assert [s.status for s in result.agent_states] == ["completed", "blocked", "blocked"]
            assert result.command_id == command_id(run_id, REASON)
            started, usage, acknowledged, finished = await events_of(settings, run_id)
            assert (started.type, usage.type, finished.type) == (
                *("run.started", "usage"),
                "run.finished",
            )
            assert isinstance(acknowledged, AbortAcknowledged)
            assert (acknowledged.outcome, acknowledged.command_id) == (
                *("stopped",),
                result.command_id,
            )
            assert acknowledged.overshoot_g == result.total_carbon_g - 0.001


async def test_the_local_check_stops_first_and_acknowledges_the_command(
    settings: Settings,
) -> None:
    async with commands_by_hand(settings):
        result = await mesh_on(settings, 0.001).run(run_id="run-1")

    assert result.command_id == command_id("run-1", REASON)
    assert [event.type for event in await events_of(settings, "run-1")] == [
        *("run.started", "usage", "abort.acknowledged", "run.finished"),
    ]


async def test_an_operator_stops_a_run_between_its_steps(settings: Settings) -> None:
    at_second_agent, commanded = asyncio.Event(), asyncio.Event()
    stopped: list[CarbonBudgetExceededError] = []

    async def long_agent(ctx: AgentContext) -> None:
        at_second_agent.set()
        await commanded.wait()
        while True:
            await asyncio.sleep(0.01)
            try:
                ctx.check()
            except CarbonBudgetExceededError as error:
                stopped.append(error)
                raise

    mesh = mesh_on(settings, agents=1)
    mesh.add_agent("long", long_agent)
    mesh.add_agent("late", one_call)
    running = asyncio.create_task(mesh.run(run_id="run-1"))
    await at_second_agent.wait()
    await link_for(settings).flush(60.0)
    await publish(settings, budget_command("run-1", "operator: enough"))
    commanded.set()

    async with asyncio.timeout(60):
        result = await running
    assert (result.status, result.reason) == (RunStatus.ABORTED, "operator: enough")
    assert [s.status for s in result.agent_states] == ["completed", "aborted", "blocked"]
    assert stopped[0].command_id == result.command_id


async def test_a_command_after_the_end_is_answered(settings: Settings) -> None:
    await mesh_on(settings).run(run_id="run-1")
    await publish(settings, budget_command("run-1"))

    async def answered() -> list[Event]:
        events = await events_of(settings, "run-1")
        return [event for event in events if isinstance(event, AbortAcknowledged)]

    (acknowledged,) = await eventually(answered)
    assert acknowledged.outcome == "already_finished"


async def test_the_workers_numbers_are_the_runtimes(settings: Settings, tmp_path: Path) -> None:
    """The whole circle, the worker in another process: breach, command, abort, acknowledged."""
    await create_topics(settings)
    process = PipelineProcess("worker", settings, tmp_path / "worker.log")
    try:
        enough = await mesh_on(settings, 1000.0).run(run_id="run-enough")
        tiny = await mesh_on(settings, 0.001, local_enforcement=False, agents=2).run(
            run_id="run-tiny"
        )

        async def finished() -> bool:
            records = await carbon_records(settings)
            ends = [
                r for r in records if isinstance(r, Lifecycle) and r.event.type[-8:] == "finished"
            ]
            return len(ends) == 2

        await eventually(finished)
        records = await carbon_records(settings)
        issued = await commands(settings)
    finally:
        process.stop()

    assert (enough.status, tiny.status) == (RunStatus.COMPLETED, RunStatus.ABORTED)
    assert [state.status for state in tiny.agent_states] == ["completed", "blocked"]
    assert {command.command_id for command in issued} == {tiny.command_id}
    for result in (enough, tiny):
        spent_g = [
            r.run_carbon_g
            for r in records
            if r.type == "carbon" and r.usage.run_id == result.run_id
        ]
        assert spent_g[-1] == result.total_carbon_g


async def test_a_broker_that_comes_back_gets_everything_once_and_in_order(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka=KafkaSettings(partitions=3, request_timeout_s=5.0))
    async with EmbeddedBroker() as first:
        with announced(tmp_path, first.bootstrap_servers):
            await mesh_on(settings).run(run_id="before")
            await first.stop()
            # A run at the moment of the loss waits for what it is told to, the next ones not.
            link = link_for(settings)
            while await link.flush(0.2):
                link.emit(Announcement(RunStarted(run_id="probe", time=datetime.now(UTC))))
            results = [await mesh_on(settings, 0.001).run(run_id=f"run-{n}") for n in range(5)]

    async with EmbeddedBroker() as second:
        with announced(tmp_path, second.bootstrap_servers):
            async with asyncio.timeout(120):
                while link.health().undelivered:
                    await asyncio.sleep(0.05)
            for result in results:
                assert (result.status, result.command_id) == (RunStatus.ABORTED, None)
                events = await events_of(settings, result.run_id)
                assert [event.type for event in events] == ["run.started", "usage", "run.finished"]


async def test_agents_in_threads_report_like_any_other(settings: Settings) -> None:
    def plain(ctx: AgentContext) -> str:
        return ctx.call_model_sync(ctx.task).text

    results: list[RunResult] = []

    def work() -> None:
        mesh = mesh_on(settings, agents=0)
        mesh.add_agent("plain", plain)
        results.append(mesh.run_sync(task="tides"))

    await create_topics(settings)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)

    assert len({result.total_carbon_g for result in results}) == 1
    for result in results:
        events = await events_of(settings, result.run_id)
        assert [event.type for event in events] == ["run.started", "usage", "run.finished"]


async def test_commands_for_others_and_rubbish_disturb_nobody(settings: Settings) -> None:
    await produce(settings, [])
    producer = AIOKafkaProducer(**(await connect(settings)).producer_options())
    await producer.start()
    topic = Topics(settings.kafka.topic_prefix).commands
    mesh = mesh_on(settings, 0.001, local_enforcement=False)
    async with commands_by_hand(settings) as commanded:
        await mesh.run(run_id="run-1")
        for value in (b"", b"not json", dump(budget_command("somebody-else"))):
            for partition in range(settings.kafka.partitions):
                await producer.send_and_wait(topic, value, key=b"x", partition=partition)
        result = await mesh.run(run_id="run-2")
    await producer.stop()

    assert commanded == ["run-1", "run-2"]
    assert result.command_id == command_id("run-2", REASON)
