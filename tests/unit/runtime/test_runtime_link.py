"""The link without a broker: runs go on, nothing waits or is lost. With one: integration."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from marlin.errors import CarbonBudgetExceededError
from marlin.runtime import AgentContext, MeshFlow, RunStatus
from marlin.runtime.link import close_links, link_for
from marlin.runtime.spill import SpillFolder
from marlin.schemas import EVENT
from marlin.settings import KafkaSettings, RuntimeSettings, Settings


@pytest.fixture(autouse=True)
def closed() -> Generator[None]:
    yield
    close_links()


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"))


async def one_call(ctx: AgentContext) -> str:
    return (await ctx.call_model("x")).text


def mesh_on(settings: Settings, carbon_budget_g: float | None, flush_timeout_s: float) -> MeshFlow:
    return MeshFlow(
        mock=True,
        default_model="large-70b",
        settings=settings,
        carbon_budget_g=carbon_budget_g,
        flush_timeout_s=flush_timeout_s,
        command_grace_s=60.0,
        agents={"a": one_call, "b": one_call},
    )


async def test_without_a_broker_runs_end_as_they_would_with_kafka_off(nowhere: Settings) -> None:
    apart = MeshFlow(
        mock=True, default_model="large-70b", kafka=False, agents={"a": one_call, "b": one_call}
    )

    async with asyncio.timeout(30):
        completed = await mesh_on(nowhere, 1000.0, 60.0).run()
        aborted = await mesh_on(nowhere, 0.0, 60.0).run()
        with pytest.raises(CarbonBudgetExceededError):
            await mesh_on(nowhere, 0.0, 60.0).run(raise_on_breach=True)

    assert completed.status is RunStatus.COMPLETED
    assert completed.total_carbon_g == (await apart.run()).total_carbon_g
    assert (aborted.status, aborted.command_id) == (RunStatus.ABORTED, None)


async def test_kafka_away_is_said_once_and_so_is_what_waits_on_disk(
    nowhere: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await mesh_on(nowhere, None, 60.0).run()
        close_links()

    first, last = caplog.messages
    assert first.startswith("Kafka is away")
    assert "127.0.0.1:1" in first
    (file,) = nowhere.spill_path.iterdir()
    assert last.startswith(f"12 events did not reach Kafka and wait in {file}")


async def test_what_is_lost_without_a_file_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    runtime = RuntimeSettings(spill=False, buffer_events=3)
    settings = Settings(home=tmp_path, kafka=kafka, runtime=runtime)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await mesh_on(settings, None, 60.0).run()
        health = link_for(settings).health()
        close_links()

    # Six have room: lifecycle events may take twice what usage may.
    assert (health.connected, health.undelivered, health.dropped) == (False, 6, 6)
    assert caplog.messages[-1].startswith("12 events were never sent to Kafka: 6 were left")
    assert not settings.spill_path.exists()


async def test_a_process_that_is_away_from_kafka_writes_to_disk_before_it_ends(
    nowhere: Settings,
) -> None:
    link = link_for(nowhere)
    await mesh_on(nowhere, None, 60.0).run()

    async with asyncio.timeout(30):
        while link.health().spilled < 4:
            await asyncio.sleep(0.01)

    health = link.health()
    assert (health.connected, health.undelivered, health.spilled) == (False, 4, 4)
    assert health.spill_file is not None
    assert health.spill_file.stat().st_size > 4 * 100


async def test_a_broker_that_accepts_and_says_nothing_is_waited_for_within_bounds(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        kafka = KafkaSettings(bootstrap_servers=address, request_timeout_s=0.2)
        settings = Settings(home=tmp_path, kafka=kafka)

        result = await mesh_on(settings, None, 0.05).run()

        # The first run found out; the second does not wait at all.
        async with asyncio.timeout(30):
            again = await mesh_on(settings, None, 3600.0).run()
        close_links()

    assert result.status is again.status is RunStatus.COMPLETED


def test_a_link_that_never_did_anything_closes(nowhere: Settings) -> None:
    link = link_for(nowhere)

    link.shut_down()
    link.shut_down()

    assert link.health().undelivered == 0
    assert not nowhere.spill_path.exists()


_EXITING = """
import sys
from marlin.runtime.uplink import uplink_for
from marlin.settings import Settings
sys.path.insert(0, sys.argv[2])
from runtime_doubles import Emitted

link = uplink_for(Settings.model_validate_json(sys.argv[1]), kafka=True)
for number in range(5):
    link.emit(Emitted("run-1", b"%d" % number))
"""

_FORKING = (
    _EXITING
    + """
import multiprocessing
def child():
    assert uplink_for(Settings.model_validate_json(sys.argv[1]), kafka=True) is link
    assert link.health().undelivered == 0
    for number in range(3):
        link.emit(Emitted("run-2", b"%d" % number))
def idle():
    pass
for target in (idle, child):
    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join()
    assert process.exitcode == 0
"""
)


def spilled_by(
    program: str, settings: Settings, environment: Mapping[str, str] | None = None
) -> dict[bytes, list[bytes]]:
    """What a process that runs `program` and ends leaves on disk, by run."""
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, settings.model_dump_json(), str(tests)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[bytes, list[bytes]] = {}
    for file in SpillFolder(settings).leftovers():
        for record in file.read(100)[0]:
            found.setdefault(record.key, []).append(record.value)
        file.close()
    return found


def test_what_is_left_at_the_end_of_the_interpreter_is_on_disk(tmp_path: Path) -> None:
    assert spilled_by(_EXITING, quickly_closed(tmp_path)) == {
        b"run-1": [b"0", b"1", b"2", b"3", b"4"]
    }


_AMBIENT = """
from marlin.runtime.meter import metering_run
from marlin.tokens import TokenUsage
metering_run().record(TokenUsage(1, 1), model="small-7b")
"""


def test_what_ends_with_the_program_is_still_sent(tmp_path: Path) -> None:
    settings = quickly_closed(tmp_path)
    environment = {
        "MARLIN_HOME": str(tmp_path),
        "MARLIN_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "MARLIN_RUNTIME__CLOSE_TIMEOUT_S": "0.1",
    }
    (events,) = spilled_by(_AMBIENT, settings, environment).values()

    assert [EVENT.validate_json(event).type for event in events] == [
        *("run.started", "usage", "run.finished"),
    ]


def test_a_forked_child_sends_its_own_and_the_parent_its_own(tmp_path: Path) -> None:
    assert spilled_by(_FORKING, quickly_closed(tmp_path)) == {
        b"run-1": [b"0", b"1", b"2", b"3", b"4"],
        b"run-2": [b"0", b"1", b"2"],
    }


def quickly_closed(home: Path) -> Settings:
    return Settings(
        home=home,
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        runtime=RuntimeSettings(close_timeout_s=0.1),
    )
