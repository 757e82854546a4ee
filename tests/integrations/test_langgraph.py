"""LangGraph's graphs within a budget: stopped before the next model call, however they are run."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Generator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_models import ScriptedModel
from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError
from marlin.estimation import default_estimator
from marlin.runtime.integrations.langchain import MarlinCallbackHandler


class State(TypedDict):
    said: Annotated[list[str], operator.add]


Node = Any


@pytest.fixture(autouse=True)
def _instrumented() -> Generator[None]:
    marlin.instrument("langchain")
    yield
    marlin.uninstrument("langchain")


def _node(model: ScriptedModel, asks: str, *, is_async: bool) -> Node:
    def speak(state: State) -> State:
        return {"said": [str(model.invoke(asks).content)]}

    async def speak_async(state: State) -> State:
        return {"said": [str((await model.ainvoke(asks)).content)]}

    return speak_async if is_async else speak


def _chain(model: ScriptedModel, *, is_async: bool = False) -> Any:
    graph = StateGraph(State)
    names = ["researcher", "writer", "critic"]
    for name in names:
        graph.add_node(name, _node(model, f"as {name}", is_async=is_async))  # pyright: ignore[reportUnknownMemberType]
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph.compile()  # pyright: ignore[reportUnknownMemberType]


async def _run(graph: Any, way: str) -> list[Any]:
    start: State = {"said": []}
    match way:
        case "invoke":
            return [graph.invoke(start)]
        case "ainvoke":
            return [await graph.ainvoke(start)]
        case "stream":
            return list(graph.stream(start, stream_mode="updates"))
        case "stream messages":
            return list(graph.stream(start, stream_mode="messages"))
        case _:
            return [update async for update in graph.astream(start, stream_mode="updates")]


WAYS = pytest.mark.parametrize(
    ("way", "is_async"),
    [
        ("invoke", False),
        ("stream", False),
        ("stream messages", False),
        ("ainvoke", True),
        ("ainvoke", False),
        ("astream", True),
    ],
)


@WAYS
async def test_every_node_is_an_agent(way: str, is_async: bool) -> None:
    metered, model = Metered(), ScriptedModel()
    async with metered.run:
        await _run(_chain(model, is_async=is_async), way)
    assert [one.agent_id for one in metered.usage] == ["researcher", "writer", "critic"]
    assert [one[:4] for one in metered.tokens] == [(10, 512, 1733, 120)] * 3
    assert [state.calls for state in metered.run.result.agent_states] == [1, 1, 1]


@WAYS
async def test_a_graph_stops_before_its_next_model_call(way: str, is_async: bool) -> None:
    call_g = (
        default_estimator()
        .coefficients("large-70b", "scriptedmodel", "")
        .footprint(10, 512, 1733, 120)[1]
    )
    metered, model = Metered(1.5 * call_g, preflight=False), ScriptedModel()
    with pytest.raises(CarbonBudgetExceededError) as stopped:  # the run is left too
        async with metered.run:
            await _run(_chain(model, is_async=is_async), way)
    assert model.calls == ["as researcher", "as writer"]
    assert stopped.value.agent_id == "writer"
    assert stopped.value.step == 2
    assert stopped.value.spent_g == pytest.approx(2 * call_g)
    assert metered.run.result.status.value == "aborted"
    assert metered.run.result.stopped_by == "writer"


def test_a_handler_given_to_the_graph_reaches_its_models() -> None:
    marlin.uninstrument("langchain")
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        start: State = {"said": []}
        _chain(model).invoke(start, config={"callbacks": [MarlinCallbackHandler()]})
    assert [one.agent_id for one in metered.usage] == ["researcher", "writer", "critic"]


async def test_a_cancelled_graph_counts_what_was_under_way() -> None:
    metered, model = Metered(), ScriptedModel(pause_after=0)
    async with metered.run:
        task = asyncio.create_task(_run(_chain(model, is_async=True), "ainvoke"))
        while not model.calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert metered.run.reserved_g == 0
    assert [(one.agent_id, one.usage_quality) for one in metered.usage] == [
        ("researcher", "partial")
    ]


class _Gated(ScriptedModel):
    """Its answers come once the gate is open."""

    gate: Any = None

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append("waits")
        await self.gate.wait()
        return self._generate(*args)


BRANCHES = 8


async def _branches_within(budget_g: float, *, preflight: bool) -> tuple[Metered, int]:
    """A graph of parallel branches, each with one call; how many calls were refused."""
    metered = Metered(budget_g, preflight=preflight)
    model = _Gated(gate=asyncio.Event())
    refused: list[str] = []

    def branch(name: str) -> Node:
        async def speak(state: State) -> State:
            try:
                return {"said": [str((await model.ainvoke("in parallel")).content)]}
            except CarbonBudgetExceededError:
                refused.append(name)
                return {"said": []}

        return speak

    graph = StateGraph(State)
    for number in range(BRANCHES):
        graph.add_node(f"branch {number}", branch(f"branch {number}"))  # pyright: ignore[reportUnknownMemberType]
        graph.add_edge(START, f"branch {number}")
        graph.add_edge(f"branch {number}", END)
    compiled: Any = graph.compile()  # pyright: ignore[reportUnknownMemberType]
    async with metered.run:
        # One call by which the run learns how long such answers are.
        model.gate.set()
        await model.ainvoke("in parallel")
        model.gate.clear()
        model.calls.clear()
        task = asyncio.create_task(compiled.ainvoke({"said": []}))
        while len(model.calls) + len(refused) < BRANCHES:
            await asyncio.sleep(0)
        model.gate.set()
        await task
    return metered, len(refused)


async def test_parallel_branches_share_one_budget() -> None:
    call_g = (
        default_estimator().coefficients("large-70b", "_gated", "").footprint(10, 512, 1733, 120)[1]
    )
    budget_g = 4.5 * call_g
    metered, refused = await _branches_within(budget_g, preflight=True)
    overshoot_g = metered.run.result.total_carbon_g - budget_g
    # Refused early, as prompts are forecast as if nothing of them were cached.
    assert 0 < refused < BRANCHES
    assert overshoot_g <= call_g
    # Without asking before: all of them slip under together.
    metered, refused = await _branches_within(budget_g, preflight=False)
    assert refused == 0
    assert metered.run.result.total_carbon_g == pytest.approx(9 * call_g)
