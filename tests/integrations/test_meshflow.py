"""The package `meshflow` under its own mock: its runs are counted, budgeted and really stopped."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from integrations.fakes import anthropic as anthropic_fake
from integrations.fakes.http import serving
from meshflow import (
    Agent,
    AnthropicProvider,
    Crew,
    Mesh,
    MeshNode,
    Policy,
    StepRuntime,
    Task,
    Team,
    Workflow,
    WorkflowDefinition,
    govern,
    tool,
)
from meshflow.cache import InMemoryCache
from meshflow.core.schemas import TokenChunk
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError, ConfigurationError, TokenUsage, current_run
from marlin.estimation import default_estimator
from marlin.normalise import read
from marlin.runtime import meter
from marlin.runtime.integrations import meshflow as integration
from marlin.runtime.integrations.calls import begin
from marlin.runtime.integrations.replacement import Replacement

MODEL = "large-70b"
LONG_TASK = " ".join(["word"] * 60)
"""MeshFlow gives a short task to one agent alone."""


@dataclass
class Provider:
    """MeshFlow's interface of a model: 40 characters, and 1000 tokens in all."""

    calls: list[str] = field(default_factory=list[str])
    waits: bool = False
    fails: bool = False
    inside: Callable[[], None] = lambda: None

    async def complete(
        self, model: str, messages: Any, system: str, max_tokens: int, **_: Any
    ) -> tuple[str, int, float]:
        self.calls.append(model)
        if self.fails:
            raise ConnectionError("the provider is away")
        if self.waits:
            await asyncio.Event().wait()
        self.inside()
        return "x" * 40, 1000, 0.02

    async def complete_with_tools(
        self,
        model: str,
        messages: Any,
        system: str,
        max_tokens: int,
        tool_schemas: Any,
        tool_fns: dict[str, Any],
    ) -> tuple[str, int, float]:
        for function in tool_fns.values():
            if inspect.iscoroutinefunction(function):
                await function()
            else:
                await asyncio.get_running_loop().run_in_executor(None, function)
        return await self.complete(model, messages, system, max_tokens)

    async def stream_complete(self, *, model: str, **_: Any) -> AsyncIterator[TokenChunk]:
        self.calls.append(model)
        self.inside()
        for word in ("four", "char", "word"):
            yield TokenChunk(text=word, agent_id="", step_id="", run_id="")


ONE_CALL = (990, 0, 0, 10, 0, "estimated")


def _call_g() -> float:
    by = default_estimator().coefficients(MODEL, "", "")
    return by.footprint(990, 0, 0, 10)[1]


@pytest.fixture(autouse=True)
def _instrumented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    monkeypatch.setenv("MESHFLOW_MOCK", "1")
    monkeypatch.chdir(tmp_path)
    marlin.instrument("meshflow")
    yield
    marlin.uninstrument("meshflow")


def _agents(provider: Any) -> list[Any]:
    return [
        Agent("researcher", role="researcher", model=MODEL, provider=provider),
        Agent("writer", model=MODEL, provider=provider),
        Agent("critic", role="critic", model=MODEL, provider=provider),
    ]


async def _team(provider: Any, pattern: Any = "sequential") -> Any:
    return await Team("team", _agents(provider), pattern=pattern).run("a task")


async def _workflow(provider: Any) -> Any:
    workflow: Any = Workflow()
    for agent in _agents(provider):
        workflow.add(agent)
    return await workflow._run_async("a task")


async def _workflow_of_plain_code(provider: Any) -> Any:
    workflow = Workflow()
    for agent in _agents(provider):
        workflow.add(agent)
    return workflow.run("a task")


async def _crew(provider: Any) -> Any:
    agents = _agents(provider)
    tasks = [Task(f"do {agent.name}", "text", agent=agent) for agent in agents]
    return await Crew(agents=agents, tasks=tasks).kickoff()


async def _mesh(provider: Any) -> Any:
    built = [agent._build() for agent in _agents(provider)]
    return await Mesh(agents=built).run(LONG_TASK)


async def _mesh_stream(provider: Any) -> Any:
    built = [agent._build() for agent in _agents(provider)]
    return [event async for event in Mesh(agents=built).stream(LONG_TASK)]


async def _definition(provider: Any) -> Any:
    definition, before = WorkflowDefinition("defined"), None
    for agent in _agents(provider):
        definition.add_node(agent.to_mesh_node())
        if before:
            definition.add_edge(before, agent.name)
        before = agent.name
    return await Mesh().run_workflow(definition, "a task")


async def _team_stream(provider: Any, pattern: Any = "sequential") -> Any:
    team = Team("team", _agents(provider), pattern=pattern)
    return [chunk async for chunk in await team.stream("a task")]


Way = Callable[[Any], Coroutine[Any, Any, Any]]
WAYS: list[Way] = [
    *(_team, _workflow, _workflow_of_plain_code, _crew, _mesh, _mesh_stream, _definition),
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))


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
    metered, provider = Metered(1.5 * _call_g(), preflight=False), Provider()
    with pytest.raises(CarbonBudgetExceededError) as stopped:
        async with metered.run:
            await way(provider)
    assert len(provider.calls) == 2
    assert stopped.value.agent_id == "writer"
    assert stopped.value.step == 2
    assert stopped.value.spent_g == pytest.approx(2 * _call_g())
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
    metered, provider = Metered(1.5 * _call_g(), preflight=False), Provider()
    with pytest.raises(CarbonBudgetExceededError) as stopped:
        async with metered.run:
            await _team(provider)
    assert stopped.value.partial == {"researcher": "x" * 40, "writer": "x" * 40}
    states = {state.agent_id: state.status.value for state in metered.run.result.agent_states}
    assert states == {"researcher": "completed", "writer": "completed", "critic": "blocked"}


async def test_meshflow_alone_counts_almost_nothing_and_stops_nothing() -> None:
    """What it does by itself, and why its own budget is not relied on."""
    marlin.uninstrument("meshflow")
    provider, policy = Provider(), Policy(enable_environmental=True, carbon_budget_g=0.0)
    result = await Team("team", _agents(provider), policy=policy).run("a task")
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
    policy = Policy(enable_environmental=True, carbon_budget_g=1.5 * _call_g())
    with pytest.raises(CarbonBudgetExceededError) as stopped:
        await Team("team", _agents(provider), policy=policy).run("a task")
    assert len(provider.calls) == 2
    assert stopped.value.budget_g == policy.carbon_budget_g
    built = [agent._build() for agent in _agents(provider)]
    with pytest.raises(CarbonBudgetExceededError):
        await Mesh(agents=built).run(LONG_TASK, policy=policy)
    assert len(provider.calls) == 4
    assert [one.run.result.status.value for one in derived] == ["aborted"] * 2


async def test_a_policy_without_environment_is_no_budget(derived: list[Metered]) -> None:
    provider = Provider()
    await Team("team", _agents(provider), policy=Policy(carbon_budget_g=0.0)).run("a task")
    await Agent("alone", model=MODEL, provider=provider).run("a task")
    assert [one.carbon_budget_g for one in derived] == [None, None]
    assert [len(one.usage) for one in derived] == [3, 1]
    assert [one.run.result.status.value for one in derived] == ["completed"] * 2


async def test_the_policy_of_the_run_around_wins(derived: list[Metered]) -> None:
    metered, provider = Metered(), Provider()
    policy = Policy(enable_environmental=True, carbon_budget_g=0.0)
    async with metered.run:
        await Team("team", _agents(provider), policy=policy).run("a task")
    assert (len(metered.usage), derived) == (3, [])


async def test_the_threshold_is_found_by_bisection() -> None:
    async def completes(budget_g: float) -> bool:
        try:
            async with Metered(budget_g, preflight=False).run:
                await _team(Provider())
        except CarbonBudgetExceededError:
            return False
        return True

    low_g, high_g = 0.0, 100 * _call_g()
    assert not await completes(low_g)
    assert await completes(high_g)
    for _ in range(20):
        middle_g = (low_g + high_g) / 2
        low_g, high_g = (low_g, middle_g) if await completes(middle_g) else (middle_g, high_g)
    assert high_g == pytest.approx(3 * _call_g(), rel=1e-3)


async def test_agents_in_parallel_share_one_budget() -> None:
    metered, provider = Metered(1.5 * _call_g(), preflight=False), Provider()
    agents = [Agent(name, model=MODEL, provider=provider) for name in ("plan", "a", "b", "join")]
    with pytest.raises(CarbonBudgetExceededError):
        async with metered.run:
            await Team("team", agents, pattern="parallel").run("a task")
    # The first, and one of the two that run side by side; the other's call is refused.
    assert [one.agent_id for one in metered.usage] == ["plan", "a"]
    states = {state.agent_id: state.status.value for state in metered.run.result.agent_states}
    assert states == {"plan": "completed", "a": "completed", "b": "blocked"}


async def test_the_mock_is_estimated_from_lengths() -> None:
    metered = Metered()
    async with metered.run:
        result = await Agent("echo", model=MODEL).run("abcd")
    assert result["result"].startswith("[echo] Task: abcd")
    (usage,) = metered.usage
    assert usage.usage_quality == "estimated"
    assert usage.output_tokens == -(-len(result["result"]) // 4)
    assert usage.input_tokens > usage.output_tokens / 2
    assert usage.provider == ""


async def test_agents_that_nobody_named_are_called_by_their_role() -> None:
    metered = Metered()
    async with metered.run:
        await Mesh(policy=Policy()).run(LONG_TASK)
    assert list(dict.fromkeys(one.agent_id for one in metered.usage)) == [
        *("planner", "researcher", "executor", "critic")
    ]


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


def _inner_call() -> None:
    inner = begin(provider="sdk", model=MODEL, prompt="sixteen letters.")
    inner.finish(lambda: read(TokenUsage(3, 4)))


@every_way
async def test_an_instrumented_package_below_counts_in_its_place(way: Way) -> None:
    metered = Metered()
    async with metered.run:
        await way(Provider(inside=_inner_call))
        assert metered.run.reserved_g == 0
    assert metered.tokens == [(3, 0, 0, 4, 0, "reported")] * 3
    assert [one.agent_id for one in metered.usage] == ["researcher", "writer", "critic"]


@pytest.mark.parametrize("way", ["run", "stream"])
async def test_anthropics_package_below_counts_exactly(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    marlin.instrument("anthropic")
    metered = Metered()
    with serving({anthropic_fake.HOST: anthropic_fake.server()}):
        agent = Agent("real", model="claude-opus-4-5", provider=AnthropicProvider())
        async with metered.run:
            if way == "run":
                assert (await agent.run("a task"))["result"] == anthropic_fake.TEXT
            else:
                texts: Any = agent.stream("a task")
                assert "".join([text async for text in texts]) == anthropic_fake.TEXT
    marlin.uninstrument("anthropic")
    assert metered.tokens == [anthropic_fake.REPORTED]
    assert [(one.agent_id, one.provider) for one in metered.usage] == [("real", "anthropic")]


async def test_meshflows_number_is_divided_where_nothing_below_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    metered = Metered()
    with serving({anthropic_fake.HOST: anthropic_fake.server()}):
        agent = Agent("real", model="claude-opus-4-5", provider=AnthropicProvider())
        async with metered.run:
            await agent.run("a task")
            await agent.run("a task")
    # 10 fresh tokens and 120 of output are told as 130; the answer's text is 6 of them.
    assert metered.tokens == [(124, 512, 1733, 6, 0, "estimated")] * 2
    assert {one.provider for one in metered.usage} == {"anthropic"}


async def test_the_model_calls_of_tools_count_beside_their_agents() -> None:
    def plain() -> None:
        _inner_call()

    async def asynchronous() -> None:
        _inner_call()

    tools: list[Any] = [tool(name="plain")(plain), tool(name="asynchronous")(asynchronous)]
    metered = Metered()
    async with metered.run:
        await Agent("user", model=MODEL, provider=Provider(), tools=tools).run("a task")
        assert metered.run.reserved_g == 0
    assert metered.tokens == [(3, 0, 0, 4, 0, "reported")] * 2 + [ONE_CALL]
    assert {one.agent_id for one in metered.usage} == {"user"}


async def test_an_answer_out_of_meshflows_cache_took_nothing() -> None:
    metered, provider = Metered(), Provider()
    agent = Agent("cached", model="gpt-4o", provider=provider, cache=InMemoryCache())
    async with metered.run:
        first, second = await agent.run("a task"), await agent.run("a task")
    assert first["result"] == second["result"]
    assert (len(provider.calls), metered.tokens) == (1, [ONE_CALL])


async def test_a_provider_that_fails_takes_nothing_and_meshflow_goes_on_as_it_does() -> None:
    metered = Metered()
    async with metered.run:
        result = await _team(Provider(fails=True))
        assert metered.run.reserved_g == 0
        with pytest.raises(ConnectionError):
            await Agent("alone", model=MODEL, provider=Provider(fails=True)).run("a task")
    assert (result.completed, metered.tokens) == (False, [])


async def test_a_cancelled_call_counts_its_prompt() -> None:
    metered, provider = Metered(), Provider(waits=True)
    async with metered.run:
        task = asyncio.create_task(_team(provider))
        while not provider.calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert metered.run.reserved_g == 0
    ((input_tokens, _, _, output_tokens, _, quality),) = metered.tokens
    assert (output_tokens, quality) == (0, "partial")
    assert input_tokens > 10


async def test_a_streamed_answer_counts() -> None:
    metered = Metered()
    async with metered.run:
        chunks = await _team_stream(Provider())
        assert [chunk.content for chunk in chunks if chunk.kind == "token"] == [
            *("four", "char", "word") * 3
        ]
    assert [(one.output_tokens, one.usage_quality) for one in metered.usage] == [
        (3, "estimated")
    ] * 3
    assert [one.agent_id for one in metered.usage] == ["researcher", "writer", "critic"]


async def test_a_stream_that_is_left_counts_what_came() -> None:
    metered = Metered()
    async with metered.run:
        stream: Any = Agent("teller", model=MODEL, provider=Provider()).stream("a task")
        assert await anext(stream) == "four"
        await stream.aclose()
        assert metered.run.reserved_g == 0
    assert [(one.agent_id, one.output_tokens, one.usage_quality) for one in metered.usage] == [
        ("teller", 1, "partial")
    ]


async def test_streams_in_parallel_that_are_refused_do_not_wait_without_end() -> None:
    metered, provider = Metered(1e-9), Provider()
    with pytest.raises(CarbonBudgetExceededError):
        async with metered.run, asyncio.timeout(20):
            await _team_stream(provider, "parallel")
    assert provider.calls == []


async def test_a_stream_alone_is_refused_at_once() -> None:
    metered, provider = Metered(1e-9), Provider()
    stream: Any = Agent("teller", model=MODEL, provider=provider).stream("a task")
    with pytest.raises(CarbonBudgetExceededError):
        async with metered.run:
            await anext(stream)


async def test_who_reads_a_stream_is_not_inside_its_run(derived: list[Metered]) -> None:
    built = [agent._build() for agent in _agents(Provider())]
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
    definition = WorkflowDefinition("defined")
    for agent in _agents(provider):
        definition.add_node(MeshNode.from_native(agent.name, agent._build()))
    metered = Metered(1e-9)
    runtime = StepRuntime(Policy(), "run-of-meshflow")
    with pytest.raises(CarbonBudgetExceededError):
        async with metered.run:
            assert [one.kind async for one in definition.stream("a task", runtime)]
    assert provider.calls == []
    generous = Metered()
    async with generous.run:
        assert [one.kind async for one in definition.stream("a task", runtime)][-1] == "done"
    # It streams each agent's answer, and then has it answer again.
    assert [one.output_tokens for one in generous.usage] == [3, 10] * 3


async def test_a_marlin_that_fails_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect of Marlin's own")

    for name in ("run", "metering_run"):
        with monkeypatch.context() as patch:
            patch.setattr(meter, name, broken)
            assert (await _team(Provider())).completed
    metered = Metered()
    async with metered.run:
        monkeypatch.setattr(metered.run, "start_call", broken)
        assert (await _team(Provider())).completed
    assert metered.tokens == []


POINTS = {
    **integration.ENTRIES,
    **integration.STEPS,
    **integration.MODEL_CALLS,
    **integration.STREAMS,
    **integration.TOKEN_STREAMS,
    **integration.FROM_PLAIN_CODE,
}


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    return str(inspect.Signature(bare))


@pytest.mark.parametrize("point", POINTS)
def test_what_is_replaced_is_as_it_was_when_this_was_written(point: str) -> None:
    """Fails where a new MeshFlow changed it: read what it does now, then change the table."""
    marlin.uninstrument("meshflow")
    owner, name = integration.owner_of(point)
    original = vars(owner)[name]
    assert _signature(original) == POINTS[point]
    assert (
        inspect.iscoroutinefunction(original)
        or inspect.isasyncgenfunction(original)
        or (point in integration.FROM_PLAIN_CODE)
    )
    marlin.instrument("meshflow")
    ours = vars(owner)[name]
    assert ours is not original
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(original)
    assert inspect.isasyncgenfunction(ours) == inspect.isasyncgenfunction(original)
    assert inspect.signature(ours) == inspect.signature(original)
    marlin.uninstrument("meshflow")
    assert vars(owner)[name] is original


def test_the_version_is_the_one_this_was_tested_with() -> None:
    installed = importlib.metadata.version("meshflow")
    assert installed.startswith(f"{integration.TESTED_VERSION}.")


def test_a_meshflow_that_lacks_a_point_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"has no Nobody; .* 1\.14 can"):
        integration.owner_of("meshflow.core.mesh:Nobody.run")
    owner, _ = integration.owner_of("meshflow.core.mesh:Mesh.stream")
    with pytest.raises(ConfigurationError, match="Mesh has no dance"):
        Replacement(owner, "dance", lambda original, _: original)
    monkeypatch.setattr(integration, "_replacements", list[Replacement]())
    monkeypatch.setitem(integration.STEPS, "meshflow.core.mesh:Mesh.dance", "()")
    marlin.uninstrument("meshflow")
    with pytest.raises(ConfigurationError, match="Mesh has no dance"):
        marlin.instrument("meshflow")
