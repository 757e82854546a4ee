"""The link without a broker: runs go on, nothing waits, losses are said. With one: integration."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Generator
from pathlib import Path

import pytest

from marlin.errors import CarbonBudgetExceededError
from marlin.runtime import AgentContext, MeshFlow, RunStatus
from marlin.runtime.link import close_links, link_for
from marlin.settings import KafkaSettings, Settings


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


async def test_kafka_away_is_said_once_and_so_is_what_was_lost(
    nowhere: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await mesh_on(nowhere, None, 60.0).run()
        close_links()

    first, last = caplog.messages
    assert first.startswith("Kafka is away")
    assert "127.0.0.1:1" in first
    assert last.startswith("12 events were never sent to Kafka")


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

    assert link.dropped == 0
