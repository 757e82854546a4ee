"""Lab 13: what agents cost the climate, and how a budget stops them.

    MESHFLOW_MOCK=1 python hands_on/13_environmental.py

Nothing else needs to run: models are answered by Marlin's mock client (the same prompt always
takes the same tokens), carbon is estimated in this process, budgets are enforced in it. With a
Kafka cluster the pipeline would come to the same numbers and send the abort itself; the lab keeps
it out (`kafka=False`) so that you see the runtime alone.

Read it from `main` at the bottom; each part is one function.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence

from marlin import (
    AgentContext,
    AgentStatus,
    CarbonBudgetExceededError,
    ConfigurationError,
    MeshFlow,
    RunResult,
    RunStatus,
)

TASK = "Should the city of Bergen heat its new school with sea water?"
MODELS = ("small-7b", "medium-13b", "large-70b")

COSTLY_G = 0.1
TINY_BUDGET_G = 0.001
GENEROUS_BUDGET_G = 1000.0
BISECTION_STEPS = 40

# --- The agents: plain functions. Each gets a context, calls a model, returns its output. --------


async def outline(ctx: AgentContext) -> str:
    """Async: calls the model with `await ctx.call_model`."""
    reply = await ctx.call_model(f"List three questions that decide this: {ctx.task}")
    return reply.text


def answer(ctx: AgentContext) -> str:
    """Not async: Marlin runs it in a thread, and it calls `ctx.call_model_sync`."""
    return ctx.call_model_sync(f"Answer in one paragraph.\n{ctx['outline']}").text


async def research(ctx: AgentContext) -> str:
    """Several calls at once; each of them is counted."""
    topics = ("cost", "climate", "maintenance", "alternatives")
    prompts = [f"Collect facts about the {topic} of: {ctx.task}" for topic in topics]
    replies = await asyncio.gather(*map(ctx.call_model, prompts))
    return "\n".join(reply.text for reply in replies)


async def draft(ctx: AgentContext) -> str:
    """Writes from everything that was found."""
    return (await ctx.call_model(f"Write a report from these notes:\n{ctx['research']}")).text


async def thrifty_draft(ctx: AgentContext) -> str:
    """Branches on what an earlier agent took: after costly research a small model writes."""
    model = "small-7b" if ctx["research_carbon_g"] > COSTLY_G else None
    prompt = f"Write a report from these notes:\n{ctx['research']}"
    return (await ctx.call_model(prompt, model=model)).text


async def review(ctx: AgentContext) -> str:
    """Reads everything that was written before it."""
    return (await ctx.call_model(f"Review:\n{ctx['draft']}\nNotes:\n{ctx['research']}")).text


# --- The workflows ------------------------------------------------------------------------------


def light_pipeline() -> MeshFlow:
    """Two agents, two calls of a small model."""
    return MeshFlow(
        default_model="small-7b",
        region="eu-north-1",
        agents={"outline": outline, "answer": answer},
        kafka=False,
    )


def heavy_pipeline(
    *,
    model: str = "large-70b",
    region: str = "us-east-1",
    carbon_budget_g: float | None = None,
    preflight: bool = True,
) -> MeshFlow:
    """Three agents, six calls; by default of a large model on a carbon-heavy grid."""
    return MeshFlow(
        default_model=model,
        region=region,
        carbon_budget_g=carbon_budget_g,
        preflight=preflight,
        agents={"research": research, "draft": draft, "review": review},
        kafka=False,
    )


def thrifty_pipeline() -> MeshFlow:
    """The heavy pipeline, with an agent that looks at what was spent before it."""
    mesh = MeshFlow(default_model="large-70b", region="us-east-1", kafka=False)
    mesh.add_agent("research", research)
    mesh.add_agent("draft", thrifty_draft)
    mesh.add_agent("review", review, model="medium-13b")
    return mesh


# --- The parts of the lab -----------------------------------------------------------------------


def light_against_heavy() -> RunResult:
    """1. The same task, two footprints."""
    heading("1. A light and a heavy pipeline")
    light = light_pipeline().run_sync(task=TASK)
    heavy = heavy_pipeline().run_sync(task=TASK)
    thrifty = thrifty_pipeline().run_sync(task=TASK)
    results = {"light": light, "heavy": heavy, "thrifty": thrifty}
    table(
        ("pipeline", "calls", "tokens", "energy_wh", "carbon_g", "water_ml"),
        [(name, *footprint(result)) for name, result in results.items()],
    )
    ratio = heavy.total_carbon_g / light.total_carbon_g
    print(
        f"The heavy pipeline emits {ratio:.0f} times as much as the light one for the same task: "
        "larger model, more calls, dirtier grid."
    )
    print("The thrifty one does the same work, its later agents on smaller models.")
    return heavy


async def live_events() -> None:
    """2. Carbon as it happens: one event per model call."""
    heading("2. Live carbon events")
    live = heavy_pipeline(carbon_budget_g=GENEROUS_BUDGET_G).start(task=TASK)
    number = 0
    async for event in live:
        number += 1
        print(
            f"  event {number}: {event.agent_id:<9} {event.model:<10} "
            f"+{event.carbon_g:.6f} g  -> run {event.run_carbon_g:.6f} g, "
            f"{event.run_water_ml:.4f} mL"
        )
    result = await live
    print(f"The run ended {result.status}: {result.total_carbon_g:.6f} g in {number} events.")


def stopping_late() -> RunResult:
    """3. A budget checked after each call: the call that crosses it is made, the next is not."""
    heading("3. A budget that stops a run")
    threshold_g = find_threshold(TINY_BUDGET_G, GENEROUS_BUDGET_G, preflight=False)
    budget_table(around(threshold_g), preflight=False)
    print(f"threshold_g: {threshold_g:.9f} (by {BISECTION_STEPS} bisections)")
    below = heavy_pipeline(carbon_budget_g=threshold_g * 0.999999, preflight=False)
    print(f"just below it, agent {below.run_sync(task=TASK).stopped_by} crosses the budget")
    return heavy_pipeline(carbon_budget_g=TINY_BUDGET_G, preflight=False).run_sync(task=TASK)


def stopping_early() -> None:
    """4. The same, asked before each call, as runs do by default: what cannot fit is not made."""
    heading("4. Asking before each call")
    threshold_g = find_threshold(TINY_BUDGET_G, GENEROUS_BUDGET_G, preflight=True)
    budget_table(around(threshold_g), preflight=True)
    print(f"preflight_threshold_g: {threshold_g:.9f} (by {BISECTION_STEPS} bisections)")
    print("It is above the other one: a call must fit by its forecast, and most take less.")
    try:
        heavy_pipeline(carbon_budget_g=TINY_BUDGET_G).run_sync(task=TASK, raise_on_breach=True)
    except CarbonBudgetExceededError as error:
        print(
            f"raised: CarbonBudgetExceededError: agent {error.agent_id}, {error.reason}, "
            f"step {error.step}, {error.spent_g:g} g spent"
        )


def around(threshold_g: float) -> tuple[float, ...]:
    """Budgets below, at and above a threshold [gCO2e]."""
    below_g = (TINY_BUDGET_G, threshold_g / 2, threshold_g * 0.999999)
    return (*below_g, threshold_g, GENEROUS_BUDGET_G)


def find_threshold(too_little_g: float, enough_g: float, *, preflight: bool) -> float:
    """The smallest budget that lets the heavy pipeline complete [gCO2e], by bisection."""
    for _ in range(BISECTION_STEPS):
        middle_g = (too_little_g + enough_g) / 2
        mesh = heavy_pipeline(carbon_budget_g=middle_g, preflight=preflight)
        if mesh.run_sync(task=TASK).status is RunStatus.COMPLETED:
            enough_g = middle_g
        else:
            too_little_g = middle_g
    return enough_g


def per_agent(heavy: RunResult) -> None:
    """5. Who in the workflow takes how much."""
    heading("5. The heavy pipeline, agent by agent")
    table(
        ("agent", "status", "calls", "tokens", "energy_wh", "carbon_g", "water_ml", "share"),
        [
            (
                *(state.agent_id, str(state.status), str(state.calls), str(state.tokens)),
                *(f"{state.energy_wh:.6f}", f"{state.carbon_g:.6f}", f"{state.water_ml:.6f}"),
                f"{state.carbon_g / heavy.total_carbon_g:.0%}",
            )
            for state in heavy.agent_states
        ],
    )


def model_sizes() -> None:
    """6. The same tasks on three sizes of model."""
    heading("6. Three model sizes, same tasks, same region")
    results = {
        model: heavy_pipeline(model=model, region="us-east-1").run_sync(task=TASK)
        for model in MODELS
    }
    smallest_g = results[MODELS[0]].total_carbon_g
    table(
        ("model", "calls", "tokens", "energy_wh", "carbon_g", "water_ml", "times", "range_g"),
        [
            (
                *(model, *footprint(result), f"{result.total_carbon_g / smallest_g:.1f}"),
                f"{result.carbon_range_g.low:.4f}..{result.carbon_range_g.high:.4f}",
            )
            for model, result in results.items()
        ],
    )


def summaries(heavy: RunResult, stopped: RunResult) -> None:
    """7. The summary of a run, as `RunResult.environmental_summary` gives it."""
    heading("7. Environmental summaries")
    print(heavy.environmental_summary())
    print()
    print(stopped.environmental_summary())


# --- Printing -----------------------------------------------------------------------------------


def footprint(result: RunResult) -> Iterator[str]:
    """Calls, tokens, energy, carbon and water of a run, as table cells."""
    yield str(sum(state.calls for state in result.agent_states))
    yield str(result.total_tokens)
    yield f"{result.total_energy_wh:.6f}"
    yield f"{result.total_carbon_g:.6f}"
    yield f"{result.total_water_ml:.6f}"


def budget_table(budgets_g: Sequence[float], *, preflight: bool) -> None:
    """Run the heavy pipeline under each budget; what became of it."""
    table(
        ("budget_g", "status", "calls", "carbon_g", "crossed_by", "agents_run", "blocked"),
        [budget_row(budget_g, preflight) for budget_g in budgets_g],
    )


def budget_row(budget_g: float, preflight: bool) -> tuple[str, ...]:
    """Run the heavy pipeline under a budget; what became of it, as table cells."""
    mesh = heavy_pipeline(carbon_budget_g=budget_g, preflight=preflight)
    result = mesh.run_sync(task=TASK)
    blocked = [s.agent_id for s in result.agent_states if s.status is AgentStatus.BLOCKED]
    return (
        f"{budget_g:.9f}",
        str(result.status),
        str(sum(state.calls for state in result.agent_states)),
        f"{result.total_carbon_g:.9f}",
        result.stopped_by or "-",
        str(len(result.agent_states) - len(blocked)),
        ",".join(blocked) or "-",
    )


def heading(text: str) -> None:
    """A part's title."""
    print(f"\n{text}\n{'=' * len(text)}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns under their names; text to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    numeric = [column[0][:1].isdigit() for column in zip(*rows, strict=True)]
    for row in (head, ["-" * width for width in widths], *rows):
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        print("  " + "  ".join(cells).rstrip())


def main() -> int:
    """Run every part; the exit code."""
    try:
        light_pipeline()
    except ConfigurationError as error:
        print(
            f"{error}\n\nThis lab uses the mock. Start it by:\n"
            "    MESHFLOW_MOCK=1 python hands_on/13_environmental.py",
            file=sys.stderr,
        )
        return 2
    print(f"Task: {TASK}")
    heavy = light_against_heavy()
    asyncio.run(live_events())
    stopped = stopping_late()
    stopping_early()
    per_agent(heavy)
    model_sizes()
    summaries(heavy, stopped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
