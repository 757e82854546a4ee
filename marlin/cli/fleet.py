"""The simulated fleet of `marlin demo`: workflows of agents on the mock model, over real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from marlin.runtime import (
    AgentContext,
    AgentFunction,
    CarbonEvent,
    MeshFlow,
    MockModelClient,
    ModelReply,
    RunResult,
)
from marlin.settings import Settings

__all__ = ["RUNS", "Assignment", "assignments", "run_fleet"]

RUNS = 24
_AT_ONCE = 8

MODELS = ("small-7b", "medium-13b", "large-70b")
PLACES = (
    ("aws", "eu-north-1"),
    ("aws", "us-east-1"),
    ("gcp", "europe-west1"),
    ("aws", "ap-south-1"),
)
BUDGETS_G = (0.2, None, 0.04, 0.3, 0.07)
"""Budgets [gCO2e]. On a large model the smaller ones are breached."""

_SHORTEST_CALL_S = 0.05
_LONGEST_CALL_S = 0.30


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one run of the fleet does."""

    task: str
    workflow: str
    model: str
    provider: str
    region: str
    carbon_budget_g: float | None
    local_enforcement: bool
    """False: only the abort command that comes through Kafka can stop it."""


class _LiveMock:
    """The mock model at the pace of a real one, so that there is something to watch."""

    def __init__(self) -> None:
        self._mock = MockModelClient()

    async def complete(self, prompt: str, *, model: str) -> ModelReply:
        share = blake2b(prompt.encode(), digest_size=1).digest()[0] / 255
        await asyncio.sleep(_SHORTEST_CALL_S + share * (_LONGEST_CALL_S - _SHORTEST_CALL_S))
        return await self._mock.complete(prompt, model=model)


def _asks(*prompts: str) -> AgentFunction:
    async def agent(ctx: AgentContext) -> str:
        known = " ".join(
            str(ctx[key]) for key in ctx if not key.endswith(("_carbon_g", "_water_ml"))
        )
        replies = [await ctx.call_model(f"{prompt} {ctx.task}\n{known}") for prompt in prompts]
        return " ".join(reply.text for reply in replies)

    return agent


WORKFLOWS: dict[str, dict[str, AgentFunction]] = {
    "research": {
        "planner": _asks("Plan the research on"),
        "researcher": _asks("Find facts on", "Find counter-arguments on", "Find figures on"),
        "writer": _asks("Write a report on"),
        "reviewer": _asks("Review the report on"),
    },
    "support": {
        "router": _asks("Which team answers"),
        "answerer": _asks("Answer"),
    },
    "coding": {
        "planner": _asks("Plan the change"),
        "coder": _asks("Write the code for", "Write the tests for"),
        "reviewer": _asks("Review the change"),
    },
}

_TASKS = {
    "research": ("tidal power in Norway", "heat pumps in old houses", "the price of lithium"),
    "support": ("a parcel that never came", "a bill that is too high", "a forgotten password"),
    "coding": ("a rate limiter", "a date parser", "a retry with back-off"),
}


def assignments(runs: int = RUNS) -> Iterator[Assignment]:
    """The fleet's work: the same every time, every workflow on every model."""
    names = list(WORKFLOWS)
    for number in range(runs):
        round_, turn = divmod(number, len(names))
        workflow = names[turn]
        provider, region = PLACES[number % len(PLACES)]
        yield Assignment(
            task=_TASKS[workflow][round_ % len(_TASKS[workflow])],
            workflow=workflow,
            model=MODELS[(turn + round_) % len(MODELS)],
            provider=provider,
            region=region,
            carbon_budget_g=BUDGETS_G[number % len(BUDGETS_G)],
            local_enforcement=number % 2 == 0,
        )


async def run_fleet(
    settings: Settings,
    run_ids: Sequence[str],
    *,
    on_carbon: Callable[[CarbonEvent], None],
    on_result: Callable[[RunResult], None],
) -> list[RunResult]:
    """Carry out one assignment per run id, several at once; returns the results in their order.

    `on_carbon` is called after every model call, `on_result` after every run.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def carry_out(run_id: str, assignment: Assignment) -> RunResult:
        mesh = MeshFlow(
            carbon_budget_g=assignment.carbon_budget_g,
            default_model=assignment.model,
            provider=assignment.provider,
            region=assignment.region,
            agents=WORKFLOWS[assignment.workflow],
            model_client=_LiveMock(),
            mock=False,
            project=assignment.workflow,
            kafka=True,
            local_enforcement=assignment.local_enforcement,
            # The demo shows breaches, the commands they lead to and what the stop overshoots.
            preflight=False,
            settings=settings,
        )
        mesh.on_carbon(on_carbon)
        async with room:
            result = await mesh.run(assignment.task, run_id=run_id)
        on_result(result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(carry_out(run_id, assignment))
            for run_id, assignment in zip(run_ids, assignments(len(run_ids)), strict=True)
        ]
    return [task.result() for task in tasks]
