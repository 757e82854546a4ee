"""MeshFlow: what its arguments mean, and that runs of it are exact and apart."""

from __future__ import annotations

import asyncio
import doctest
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from runtime_doubles import REGION, FixedClient, call_g

import marlin.runtime.live
import marlin.runtime.mesh
from marlin.errors import CarbonBudgetExceededError, ConfigurationError
from marlin.estimation import default_estimator
from marlin.runtime import (
    AgentContext,
    AgentStatus,
    BudgetWarning,
    CarbonEvent,
    MeshFlow,
    MockModelClient,
    Policy,
    RunResult,
    RunStatus,
    TokenUsage,
)
from marlin.runtime.current import current_agent, current_run
from marlin.settings import Settings

ONE_CALL_G = call_g()


async def one_call(ctx: AgentContext) -> str:
    return (await ctx.call_model(ctx.task)).text


async def two_calls(ctx: AgentContext) -> str:
    return (await ctx.call_model("a")).text + (await ctx.call_model("b")).text


def mesh_of(*calls: int, carbon_budget_g: float | None = None, **options: Any) -> MeshFlow:
    """Agents `a0`, `a1`, … that make that many calls each, of 1000 + 200 tokens of large-70b.

    Without pre-flight: what is spent decides, to the bit.
    """
    options = {
        **{"model_client": FixedClient(), "default_model": "large-70b", "preflight": False},
        **options,
    }
    mesh = MeshFlow(region=REGION, carbon_budget_g=carbon_budget_g, kafka=False, **options)
    for number, count in enumerate(calls):

        async def work(ctx: AgentContext, count: int = count) -> int:
            for _ in range(count):
                await ctx.call_model(ctx.task)
            return count

        mesh.add_agent(f"a{number}", work)
    return mesh


def statuses(result: RunResult) -> list[AgentStatus]:
    return [state.status for state in result.agent_states]


async def test_totals_are_the_estimators_sums_over_the_mocks_tokens() -> None:
    mesh = MeshFlow(default_model="small-7b", provider="aws", region=REGION, mock=True, kafka=False)
    mesh.add_agent("first", one_call)
    mesh.add_agent("second", two_calls, model="large-70b", region="eu-north-1", provider="gcp")

    result = await mesh.run(task="tides")

    carbon_g = water_ml = energy_wh = cost_usd = 0.0
    tokens = 0
    for prompt, names in [
        ("tides", ("small-7b", "aws", REGION)),
        ("a", ("large-70b", "gcp", "eu-north-1")),
        ("b", ("large-70b", "gcp", "eu-north-1")),
    ]:
        usage = (await MockModelClient().complete(prompt, model="")).usage
        assert usage is not None
        by = default_estimator().coefficients(*names)
        wh, g, _, ml = by.footprint(usage.input_tokens, 0, 0, usage.output_tokens)
        carbon_g, water_ml, energy_wh = carbon_g + g, water_ml + ml, energy_wh + wh
        tokens += usage.input_tokens + usage.output_tokens
        cost_usd += usage.cost_usd or 0.0
    assert result.status is RunStatus.COMPLETED
    assert result.reason is None
    assert (result.total_carbon_g, result.total_water_ml) == (carbon_g, water_ml)
    assert (result.total_energy_wh, result.total_tokens) == (energy_wh, tokens)
    assert result.total_cost_usd == cost_usd
    assert result.carbon_range_g.central == carbon_g
    assert [state.calls for state in result.agent_states] == [1, 2]


@pytest.mark.parametrize(
    ("calls_budgeted", "status", "agents", "calls"),
    [
        (0.0, RunStatus.ABORTED, ["aborted", "blocked", "blocked"], 1),
        (0.999999, RunStatus.ABORTED, ["aborted", "blocked", "blocked"], 1),
        (1.0, RunStatus.ABORTED, ["completed", "blocked", "blocked"], 2),
        (2.0, RunStatus.ABORTED, ["completed", "completed", "blocked"], 3),
        (3.0, RunStatus.ABORTED, ["completed", "completed", "completed"], 4),
        (4.0, RunStatus.COMPLETED, ["completed", "completed", "completed"], 4),
    ],
)
async def test_the_budget_decides_where_a_run_ends(
    calls_budgeted: float, status: RunStatus, agents: list[str], calls: int
) -> None:
    client = FixedClient()
    mesh = mesh_of(2, 1, 1, carbon_budget_g=calls_budgeted * ONE_CALL_G, model_client=client)

    result = await mesh.run(task="tides")

    assert result.status is status
    assert result.reason == (None if status is RunStatus.COMPLETED else "carbon_budget_exceeded")
    assert statuses(result) == agents
    assert len(client.calls) == calls
    assert result.total_carbon_g == sum([ONE_CALL_G] * calls)


async def test_by_default_a_tiny_budget_ends_before_the_first_call() -> None:
    client = FixedClient()
    mesh = mesh_of(2, 1, carbon_budget_g=1e-6, model_client=client, preflight=True)

    result = await mesh.run()

    assert (result.status, result.reason) == (RunStatus.ABORTED, "carbon_budget_forecast")
    assert statuses(result) == ["aborted", "blocked"]
    assert (result.stopped_by, result.total_carbon_g, client.calls) == ("a0", 0.0, [])
    with pytest.raises(CarbonBudgetExceededError) as raised:
        await mesh.run(raise_on_breach=True)
    assert raised.value.forecast_g is not None
    assert raised.value.forecast_g > 1e-6


async def test_an_agent_may_do_with_less_where_a_call_is_refused() -> None:
    async def modest(ctx: AgentContext) -> str:
        try:
            return (await ctx.call_model("x")).text
        except CarbonBudgetExceededError:
            return (await ctx.call_model("x", model="small-7b")).text

    mesh = mesh_of(carbon_budget_g=0.5 * ONE_CALL_G, preflight=True)
    mesh.add_agent("modest", modest)

    result = await mesh.run()

    assert (result.status, result.outputs) == (RunStatus.COMPLETED, {"modest": "reply 1"})
    assert result.total_carbon_g == call_g("small-7b")


async def test_agents_code_finds_its_run_and_agent() -> None:
    found: list[tuple[str, str]] = []

    def look(ctx: AgentContext) -> None:
        run = current_run()
        assert run is not None
        run.record(TokenUsage(1000, 200), model="large-70b")
        found.append((run.run_id, current_agent()))

    async def look_async(ctx: AgentContext) -> None:
        look(ctx)

    mesh = mesh_of()
    mesh.add_agent("thread", look)
    mesh.add_agent("task", look_async)
    result = await mesh.run(run_id="run-1")

    assert found == [("run-1", "thread"), ("run-1", "task")]
    assert [state.calls for state in result.agent_states] == [1, 1]
    assert result.total_carbon_g == 2 * ONE_CALL_G
    assert current_run() is None


async def test_warnings_reach_the_handler() -> None:
    told: list[BudgetWarning] = []
    policy = Policy(carbon_budget_g=4 * ONE_CALL_G, warn_at=(0.5,))

    await mesh_of(1, 2, policy=policy, on_warn=told.append).run(run_id="run-1")

    assert told == [BudgetWarning("run-1", 0.5, 2 * ONE_CALL_G, 4 * ONE_CALL_G, "a1")]


async def test_blocked_agents_never_run() -> None:
    ran: list[str] = []
    mesh = mesh_of(1, carbon_budget_g=0.0)
    mesh.add_agent("late", lambda _: ran.append("late"))

    result = await mesh.run()

    assert ran == []
    assert result.stopped_by == "a0"
    late = result.agent("late")
    assert (late.status, late.calls, late.carbon_g, late.output) == ("blocked", 0, 0.0, None)
    assert result.outputs == {"a0": 1}


async def test_an_agent_that_swallows_the_error_cannot_call_on() -> None:
    client = FixedClient()

    async def stubborn(ctx: AgentContext) -> int:
        refused = 0
        for _ in range(5):
            try:
                await ctx.call_model("again")
            except CarbonBudgetExceededError:
                refused += 1
        return refused

    mesh = mesh_of(carbon_budget_g=0.0, model_client=client)
    mesh.add_agent("stubborn", stubborn)
    result = await mesh.run()

    assert result.outputs == {"stubborn": 4}
    assert len(client.calls) == 1
    assert result.status is RunStatus.ABORTED


async def test_the_raising_form_says_who_and_how_much() -> None:
    mesh = mesh_of(1, 1, carbon_budget_g=0.5 * ONE_CALL_G)

    with pytest.raises(CarbonBudgetExceededError) as raised:
        await mesh.run(run_id="run-7", raise_on_breach=True)

    error = raised.value
    assert (error.run_id, error.agent_id) == ("run-7", "a0")
    assert (error.budget_g, error.spent_g) == (0.5 * ONE_CALL_G, ONE_CALL_G)


async def test_the_raising_form_returns_what_completes_or_fails() -> None:
    mesh = mesh_of(1, carbon_budget_g=1000.0)
    assert (await mesh.run(raise_on_breach=True)).status is RunStatus.COMPLETED

    mesh.add_agent("broken", lambda _: 1 / 0)
    assert (await mesh.run(raise_on_breach=True)).status is RunStatus.FAILED


@pytest.mark.parametrize(
    "options",
    [
        {"enable_environmental": True},
        {"enable_environmental": False, "carbon_budget_g": 0.0},
        {"policy": Policy(carbon_budget_g=0.0, action="warn")},
        {"policy": Policy(enable_environmental=False, carbon_budget_g=0.0)},
    ],
)
async def test_tracking_without_enforcing(options: dict[str, Any]) -> None:
    result = await mesh_of(1, 1, **options).run()

    assert result.status is RunStatus.COMPLETED
    assert result.total_carbon_g == 2 * ONE_CALL_G


async def test_later_agents_see_what_earlier_ones_left_and_took() -> None:
    seen: dict[str, Any] = {}

    def look(ctx: AgentContext) -> None:
        seen.update(ctx)

    mesh = mesh_of(2, carbon_budget_g=10.0)
    mesh.add_agent("look", look)
    result = await mesh.run()

    first = result.agent("a0")
    assert seen == {"a0": 2, "a0_carbon_g": first.carbon_g, "a0_water_ml": first.water_ml}
    assert first.carbon_g == 2 * ONE_CALL_G


async def test_a_workflow_can_branch_on_carbon() -> None:
    async def frugal(ctx: AgentContext) -> str:
        model = "small-7b" if ctx["a0_carbon_g"] > ONE_CALL_G else "large-70b"
        await ctx.call_model("x", model=model)
        return model

    cheap, costly = mesh_of(1), mesh_of(2)
    cheap.add_agent("frugal", frugal)
    costly.add_agent("frugal", frugal)

    assert (await cheap.run()).outputs["frugal"] == "large-70b"
    assert (await costly.run()).outputs["frugal"] == "small-7b"


async def test_a_failing_agent_ends_the_run_and_usage_so_far_is_kept() -> None:
    async def broken(ctx: AgentContext) -> None:
        await ctx.call_model("x")
        raise ValueError("no facts")

    mesh = mesh_of(1)
    mesh.add_agent("broken", broken)
    mesh.add_agent("late", one_call)
    result = await mesh.run()

    assert result.status is RunStatus.FAILED
    assert result.reason == "agent broken failed: ValueError: no facts"
    assert (result.stopped_by, type(result.error)) == ("broken", ValueError)
    assert statuses(result) == ["completed", "failed", "blocked"]
    assert result.total_carbon_g == 2 * ONE_CALL_G


async def test_runs_side_by_side_do_not_mix() -> None:
    mesh = mesh_of(1, 2, 1, carbon_budget_g=1000.0)

    results = await asyncio.gather(*(mesh.run(task=str(n)) for n in range(50)))

    assert len({result.run_id for result in results}) == 50
    assert {result.total_carbon_g for result in results} == {sum([ONE_CALL_G] * 4)}


async def test_sync_and_async_agents_count_alike() -> None:
    def plain(ctx: AgentContext) -> str:
        return ctx.call_model_sync(ctx.task).text

    waits, blocks = mesh_of(), mesh_of()
    waits.add_agent("one", one_call)
    blocks.add_agent("one", plain)

    asynchronous, synchronous = await waits.run("t"), await blocks.run("t")

    assert asynchronous.total_carbon_g == synchronous.total_carbon_g == ONE_CALL_G
    assert asynchronous.outputs == synchronous.outputs == {"one": "reply 1"}


def test_run_sync_works_without_a_loop() -> None:
    assert mesh_of(1).run_sync().total_carbon_g == ONE_CALL_G


async def test_run_sync_works_inside_a_running_loop_too() -> None:
    assert mesh_of(1).run_sync().total_carbon_g == ONE_CALL_G


def test_run_sync_raises_in_its_raising_form() -> None:
    with pytest.raises(CarbonBudgetExceededError):
        mesh_of(1, carbon_budget_g=0.0).run_sync(raise_on_breach=True)


@hypothesis_settings(max_examples=60, deadline=None)
@given(budget_calls=st.floats(min_value=0, max_value=8), calls=st.lists(st.integers(0, 3)))
def test_a_run_stops_at_the_first_call_over_its_budget(
    budget_calls: float, calls: list[int]
) -> None:
    budget_g = budget_calls * ONE_CALL_G
    mesh = mesh_of(*calls, carbon_budget_g=budget_g)
    if not calls:
        return

    result = mesh.run_sync()

    needed, spent_g = 0, 0.0
    while needed < sum(calls) and spent_g <= budget_g:
        needed, spent_g = needed + 1, spent_g + ONE_CALL_G
    assert result.total_carbon_g == spent_g
    assert (result.status is RunStatus.ABORTED) is (spent_g > budget_g)


def test_the_threshold_found_by_bisection_is_the_total_and_stable() -> None:
    def threshold_g() -> float:
        low_g, high_g = 0.0, 1000.0
        while (middle_g := (low_g + high_g) / 2) not in (low_g, high_g):
            result = mesh_of(1, 2, 1, carbon_budget_g=middle_g).run_sync()
            if result.status is RunStatus.COMPLETED:
                high_g = middle_g
            else:
                low_g = middle_g
        return high_g

    assert threshold_g() == threshold_g() == mesh_of(1, 2, 1).run_sync().total_carbon_g


async def test_missing_usage_is_estimated_not_zero() -> None:
    events: list[CarbonEvent] = []
    mesh = mesh_of(1, model_client=FixedClient(usage=None))
    mesh.on_carbon(events.append)

    result = await mesh.run("four char acters")

    assert result.total_tokens == 4 + 2
    assert events[0].usage.usage_quality == "estimated"
    assert result.total_cost_usd is None


async def test_impossible_usage_fails_the_agent_that_got_it() -> None:
    mesh = mesh_of(1, model_client=FixedClient(TokenUsage(-5, 10)))

    result = await mesh.run()

    assert result.status is RunStatus.FAILED
    assert result.total_tokens == 0


async def test_listeners_hear_each_call_until_they_are_taken_off() -> None:
    heard: list[tuple[str, float]] = []
    mesh = mesh_of(1, 1)
    remove = mesh.on_carbon(lambda event: heard.append((event.agent_id, event.run_carbon_g)))

    await mesh.run()
    remove()
    await mesh.run()

    assert heard == [("a0", ONE_CALL_G), ("a1", 2 * ONE_CALL_G)]


async def test_agents_added_during_a_run_wait_for_the_next() -> None:
    mesh = mesh_of()
    mesh.add_agent("first", lambda _: mesh.add_agent("second", lambda _: None))

    assert [s.agent_id for s in (await mesh.run()).agent_states] == ["first"]


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
@pytest.mark.parametrize("name", ["MESHFLOW_MOCK", "MARLIN_MOCK"])
def test_the_environment_turns_the_mock_on_even_over_a_client(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value.strip())
    client = FixedClient()

    result = mesh_of(1, model_client=client).run_sync()

    assert client.calls == []
    assert result.total_tokens > 0


def test_mock_false_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHFLOW_MOCK", "1")
    client = FixedClient()

    mesh_of(1, model_client=client, mock=False).run_sync()

    assert len(client.calls) == 1


@pytest.mark.parametrize("value", ["0", "", "off", "no"])
def test_no_client_and_no_mock_says_what_to_pass(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MESHFLOW_MOCK", value)

    with pytest.raises(ConfigurationError, match=r"model_client=.*MESHFLOW_MOCK=1"):
        MeshFlow()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": Policy(), "carbon_budget_g": 1.0}, "not both"),
        ({"policy": Policy(), "enable_environmental": True}, "not both"),
        ({"carbon_budget_g": -1.0}, "0 or more"),
        ({"carbon_budget_g": float("nan")}, "0 or more"),
        ({"carbon_budget_g": float("inf")}, "0 or more"),
        ({"policy": Policy(action="pause")}, "cannot pause"),
        ({"agents": {"": one_call}}, "1 to 256 characters"),
        ({"agents": {"x" * 257: one_call}}, "1 to 256 characters"),
        ({"agents": {"a": one_call, "a_carbon_g": one_call}}, "'a_carbon_g'"),
        ({"agents": {"a_water_ml": one_call, "a": one_call}}, "'a_water_ml'"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MeshFlow(mock=True, **options)


def test_a_name_is_taken_once() -> None:
    mesh = mesh_of(1)

    with pytest.raises(ConfigurationError, match="a0"):
        mesh.add_agent("a0", one_call)


def test_an_invalid_setting_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARLIN_KAFKA__PARTITIONS", "none")

    with pytest.raises(ConfigurationError, match="partitions"):
        MeshFlow(mock=True)


async def test_a_workflow_without_agents_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no agents"):
        await mesh_of().run()


async def test_a_call_without_a_model_fails_the_agent_with_what_to_do() -> None:
    result = await mesh_of(1, default_model=None).run()

    assert result.status is RunStatus.FAILED
    assert "default_model" in str(result.error)


async def test_leaving_enforcement_to_a_cluster_that_is_not_there_is_refused(
    tmp_path: Path,
) -> None:
    mesh = MeshFlow(
        mock=True,
        local_enforcement=False,
        settings=Settings(home=tmp_path),
        agents={"a": one_call},
    )

    with pytest.raises(ConfigurationError, match="not be enforced"):
        await mesh.run()


async def test_a_run_id_that_events_cannot_carry_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="run_id"):
        await mesh_of(1).run(run_id="x" * 257)


@pytest.mark.parametrize("module", [marlin.runtime.mesh, marlin.runtime.live])
def test_the_documented_examples_work(module: Any) -> None:
    failed, tried = doctest.testmod(module)

    assert (failed, tried > 0) == (0, True)
