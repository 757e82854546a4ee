from __future__ import annotations

import asyncio

import pytest

from marlin.runtime import AgentContext, CarbonEvent, MeshFlow, RunStatus


async def waits(ctx: AgentContext) -> str:
    return (await ctx.call_model("a")).text


def blocks(ctx: AgentContext) -> str:
    return ctx.call_model_sync("b").text


def mesh(carbon_budget_g: float | None = None, *, preflight: bool = True) -> MeshFlow:
    return MeshFlow(
        mock=True,
        kafka=False,
        default_model="small-7b",
        carbon_budget_g=carbon_budget_g,
        preflight=preflight,
        agents={"waits": waits, "blocks": blocks},
    )


async def test_events_come_as_they_happen_and_add_up_to_the_result() -> None:
    live = mesh().start(task="t")
    events = [event async for event in live]
    result = await live

    assert [event.agent_id for event in events] == ["waits", "blocks"]
    assert events[-1].run_carbon_g == result.total_carbon_g
    assert events[-1].run_water_ml == result.total_water_ml
    assert live.run_id == result.run_id


async def test_the_first_event_is_there_before_the_run_ends() -> None:
    released = asyncio.Event()

    async def held(ctx: AgentContext) -> None:
        await ctx.call_model("a")
        await released.wait()

    flow = MeshFlow(mock=True, kafka=False, default_model="m", agents={"held": held})
    live = flow.start()
    first = await anext(aiter(live))
    released.set()
    result = await live

    assert first.run_carbon_g == result.total_carbon_g


async def test_an_aborted_run_ends_its_stream() -> None:
    live = mesh(carbon_budget_g=0.0, preflight=False).start()
    events = [event async for event in live]

    assert [event.breached for event in events] == [True]
    assert (await live).status is RunStatus.ABORTED


async def test_nobody_needs_to_look_and_looking_late_misses_nothing() -> None:
    live = mesh().start()
    result = await live
    late = [event async for event in live]
    again: list[CarbonEvent] = [event async for event in live]

    assert len(late) == 2
    assert again == []
    assert result.status is RunStatus.COMPLETED


async def test_two_lookers_share_the_events_and_both_end() -> None:
    live = mesh().start()

    async def look() -> int:
        return len([event async for event in live])

    assert sum(await asyncio.gather(look(), look())) == 2


async def test_cancelling_ends_stream_and_run() -> None:
    async def forever(_: AgentContext) -> None:
        await asyncio.Event().wait()

    live = MeshFlow(mock=True, kafka=False, agents={"forever": forever}).start()
    await asyncio.sleep(0)
    live.cancel()

    assert [event async for event in live] == []
    with pytest.raises(asyncio.CancelledError):
        await live
