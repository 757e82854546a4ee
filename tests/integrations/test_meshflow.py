"""The package `meshflow`: its runs are counted, budgeted and really stopped."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from meshflow import (
    Agent,
    Mesh,
    MeshNode,
    Policy,
    StepRuntime,
    Team,
    WorkflowDefinition,
    govern,
)
from meshflow_workflows import (
    LONG_TASK,
    MODEL,
    ONE_CALL,
    Provider,
    Way,
    agents_over,
    built_over,
    call_g,
    every_way,
    team,
)
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError, TokenUsage, current_run
from marlin.runtime import meter


@pytest.fixture(autouse=True)
def _instrumented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    monkeypatch.setenv("MESHFLOW_MOCK", "1")
    monkeypatch.chdir(tmp_path)
    marlin.instrument("meshflow")
    yield
    marlin.uninstrument("meshflow")


@every_way
async def test_each_call_counts_under_its_agents_name(way: Way) -> None:
    metered, provider = Metered(), Provider()
    async with metered.run:
        await way(provider)
        assert metered.run.reserved_g == 0
    assert metered.tokens == [ONE_CALL] * 3
    assert [one.agent_id for one in metered.usage] == ["researcher", "writer", "critic"]
    assert [(one.model, one.cost_usd) for one in metered.usage] == [(MODEL, 0.02)] * 3
    result = metered.run.result
    assert [(state.agent_id, state.calls) for state in result.agent_states] == [
        *(("researcher", 1), ("writer", 1), ("critic", 1))
    ]


@every_way
async def test_a_breach_stops_the_workflow(way: Way) -> None:
    metered, provider = Metered(1.5 * call_g(), preflight=False), Provider()
    with pytest.raises(CarbonBudgetExceededError) as stopped:
        async with metered.run:
            await way(provider)
    assert len(provider.calls) == 2
    assert stopped.value.agent_id == "writer"
    assert stopped.value.step == 2
    assert stopped.value.spent_g == pytest.approx(2 * call_g())
    result = metered.run.result
    assert (result.status.value, result.stopped_by) == ("aborted", "writer")


@every_way
async def test_a_call_that_cannot_fit_is_not_made(way: Way) -> None:
    metered, provider = Metered(1e-9), Provider()
    with pytest.raises(CarbonBudgetExceededError) as refused:
        async with metered.run:
            await way(provider)
    assert refused.value.reason == "carbon_budget_forecast"
    assert refused.value.agent_id == "researcher"
    assert provider.calls == []
    assert metered.run.reserved_g == 0


async def test_what_was_produced_is_in_the_error_and_the_rest_is_blocked() -> None:
    metered, provider = Metered(1.5 * call_g(), preflight=False), Provider()
    with pytest.raises(CarbonBudgetExceededError) as stopped:
        async with metered.run:
            await team(provider)
    assert stopped.value.partial == {"researcher": "x" * 40, "writer": "x" * 40}
    states = {state.agent_id: state.status.value for state in metered.run.result.agent_states}
    assert states == {"researcher": "completed", "writer": "completed", "critic": "blocked"}


async def test_meshflow_alone_counts_almost_nothing_and_stops_nothing() -> None:
    """What it does by itself, and why its own budget is not relied on."""
    marlin.uninstrument("meshflow")
    provider, policy = Provider(), Policy(enable_environmental=True, carbon_budget_g=0.0)
    result = await Team("team", agents_over(provider), policy=policy).run("a task")
    assert (len(provider.calls), result.completed) == (3, True)
    assert result.total_carbon_gco2 > policy.carbon_budget_g


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[Metered]:
    """The runs that are made of MeshFlow's, with a sink to see them by."""
    made: list[Metered] = []

    def run(policy: Any, *, task: str | None) -> Any:
        budget_g = None if policy is None else policy.carbon_budget_g
        made.append(Metered(budget_g, preflight=False))
        return made[-1].run

    monkeypatch.setattr(meter, "run", run)
    return made


async def test_meshflows_own_policy_is_the_budget(derived: list[Metered]) -> None:
    provider = Provider()
    policy = Policy(enable_environmental=True, carbon_budget_g=1.5 * call_g())
    with pytest.raises(CarbonBudgetExceededError) as stopped:
        await Team("team", agents_over(provider), policy=policy).run("a task")
    assert len(provider.calls) == 2
    assert stopped.value.budget_g == policy.carbon_budget_g
    built = built_over(provider)
    with pytest.raises(CarbonBudgetExceededError):
        await Mesh(agents=built).run(LONG_TASK, policy=policy)
    assert len(provider.calls) == 4
    assert [one.run.result.status.value for one in derived] == ["aborted"] * 2


async def test_a_policy_without_environment_is_no_budget(derived: list[Metered]) -> None:
    provider = Provider()
    await Team("team", agents_over(provider), policy=Policy(carbon_budget_g=0.0)).run("a task")
    await Agent("alone", model=MODEL, provider=provider).run("a task")
    assert [one.carbon_budget_g for one in derived] == [None, None]
    assert [len(one.usage) for one in derived] == [3, 1]
    assert [one.run.result.status.value for one in derived] == ["completed"] * 2


async def test_the_policy_of_the_run_around_wins(derived: list[Metered]) -> None:
    metered, provider = Metered(), Provider()
    policy = Policy(enable_environmental=True, carbon_budget_g=0.0)
    async with metered.run:
        await Team("team", agents_over(provider), policy=policy).run("a task")
    assert (len(metered.usage), derived) == (3, [])


async def test_the_threshold_is_found_by_bisection() -> None:
    async def completes(budget_g: float) -> bool:
        try:
            async with Metered(budget_g, preflight=False).run:
                await team(Provider())
        except CarbonBudgetExceededError:
            return False
        return True

    low_g, high_g = 0.0, 100 * call_g()
    assert not await completes(low_g)
    assert await completes(high_g)
    for _ in range(20):
        middle_g = (low_g + high_g) / 2
        low_g, high_g = (low_g, middle_g) if await completes(middle_g) else (middle_g, high_g)
    assert high_g == pytest.approx(3 * call_g(), rel=1e-3)


async def test_agents_in_parallel_share_one_budget() -> None:
    metered, provider = Metered(1.5 * call_g(), preflight=False), Provider()
    agents = [Agent(name, model=MODEL, provider=provider) for name in ("plan", "a", "b", "join")]
    with pytest.raises(CarbonBudgetExceededError):
        async with metered.run:
            await Team("team", agents, pattern="parallel").run("a task")
    # The first, and one of the two that run side by side; the other's call is refused.
    assert [one.agent_id for one in metered.usage] == ["plan", "a"]
    states = {state.agent_id: state.status.value for state in metered.run.result.agent_states}
    assert states == {"plan": "completed", "a": "completed", "b": "blocked"}


async def test_a_governed_callable_is_stopped_too() -> None:
    metered, calls = Metered(0.0, preflight=False), list[str]()

    def work(task: str, context: Any) -> str:
        calls.append(task)
        return "done"

    async with metered.run:
        await govern(work).run("a task")
        metered.run.record(TokenUsage(1, 1), model=MODEL)
        with pytest.raises(CarbonBudgetExceededError):
            await govern(work).run("a task")
    assert calls == ["a task"]


async def test_who_reads_a_stream_is_not_inside_its_run(derived: list[Metered]) -> None:
    built = built_over(Provider())
    seen = [current_run() async for _ in Mesh(agents=built).stream(LONG_TASK)]
    assert seen == [None] * 4
    assert [one.run.result.status.value for one in derived] == ["completed"]
    stream: Any = Mesh(agents=built).stream(LONG_TASK)
    await anext(stream)
    await stream.aclose()
    assert [(len(one.usage), one.run.result.status.value) for one in derived] == [
        (3, "completed"),
        (1, "completed"),
    ]


async def test_a_streamed_definition_is_stopped_too() -> None:
    provider = Provider()
    made = WorkflowDefinition("defined")
    for agent in agents_over(provider):
        made.add_node(MeshNode.from_native(agent.name, agent._build()))
    metered = Metered(1e-9)
    runtime = StepRuntime(Policy(), "run-of-meshflow")
    with pytest.raises(CarbonBudgetExceededError):
        async with metered.run:
            assert [one.kind async for one in made.stream("a task", runtime)]
    assert provider.calls == []
    generous = Metered()
    async with generous.run:
        assert [one.kind async for one in made.stream("a task", runtime)][-1] == "done"
    # It streams each agent's answer, and then has it answer again.
    assert [one.output_tokens for one in generous.usage] == [3, 10] * 3


async def test_a_marlin_that_fails_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect of Marlin's own")

    for name in ("run", "metering_run"):
        with monkeypatch.context() as patch:
            patch.setattr(meter, name, broken)
            assert (await team(Provider())).completed
    metered = Metered()
    async with metered.run:
        monkeypatch.setattr(metered.run, "start_call", broken)
        assert (await team(Provider())).completed
    assert metered.tokens == []
