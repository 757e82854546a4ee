"""Workflows of the package `meshflow`, in every way it runs them, over a provider of the tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from meshflow import Agent, Crew, Mesh, Task, Team, Workflow, WorkflowDefinition
from meshflow.core.schemas import TokenChunk

from marlin.estimation import default_estimator

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


def call_g() -> float:
    by = default_estimator().coefficients(MODEL, "", "")
    return by.footprint(990, 0, 0, 10)[1]


def agents_over(provider: Any) -> list[Any]:
    return [
        Agent("researcher", role="researcher", model=MODEL, provider=provider),
        Agent("writer", model=MODEL, provider=provider),
        Agent("critic", role="critic", model=MODEL, provider=provider),
    ]


def built_over(provider: Any) -> list[Any]:
    """The same, as MeshFlow builds them."""
    return [agent._build() for agent in agents_over(provider)]


async def team(provider: Any, pattern: Any = "sequential") -> Any:
    return await Team("team", agents_over(provider), pattern=pattern).run("a task")


async def workflow(provider: Any) -> Any:
    made: Any = Workflow()
    for agent in agents_over(provider):
        made.add(agent)
    return await made._run_async("a task")


async def workflow_of_plain_code(provider: Any) -> Any:
    made = Workflow()
    for agent in agents_over(provider):
        made.add(agent)
    return made.run("a task")


async def crew(provider: Any) -> Any:
    agents = agents_over(provider)
    tasks = [Task(f"do {agent.name}", "text", agent=agent) for agent in agents]
    return await Crew(agents=agents, tasks=tasks).kickoff()


async def mesh(provider: Any) -> Any:
    built = built_over(provider)
    return await Mesh(agents=built).run(LONG_TASK)


async def mesh_stream(provider: Any) -> Any:
    built = built_over(provider)
    return [event async for event in Mesh(agents=built).stream(LONG_TASK)]


async def definition(provider: Any) -> Any:
    made, before = WorkflowDefinition("defined"), None
    for agent in agents_over(provider):
        made.add_node(agent.to_mesh_node())
        if before:
            made.add_edge(before, agent.name)
        before = agent.name
    return await Mesh().run_workflow(made, "a task")


async def team_stream(provider: Any, pattern: Any = "sequential") -> Any:
    made = Team("team", agents_over(provider), pattern=pattern)
    return [chunk async for chunk in await made.stream("a task")]


Way = Callable[[Any], Coroutine[Any, Any, Any]]
WAYS: list[Way] = [
    *(team, workflow, workflow_of_plain_code, crew, mesh, mesh_stream, definition),
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
"""A test takes `way`: a researcher, a writer and a critic, who call a model once each, in turn."""
