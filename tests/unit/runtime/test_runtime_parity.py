"""The runtime and the worker come to the same numbers, to the last bit, from the same events."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from events import record as kafka_record
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from runtime_doubles import Sink

from marlin.estimation import default_estimator
from marlin.runtime import RunStatus, TokenUsage
from marlin.runtime.run import Run
from marlin.schemas import Command, Policy
from marlin.streams.partition import Outcome, Partition

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

tokens = st.integers(0, 200_000)
usages = st.builds(TokenUsage, tokens, tokens, tokens, tokens)
calls = st.lists(
    st.tuples(
        usages,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["small-7b", "large-70b", "gpt-4o", "nobody-knows"]),
        st.sampled_from(["us-east-1", "eu-north-1", "", "atlantis"]),
    ),
    max_size=20,
)
budgets = st.none() | st.floats(0, 100)
bounds = st.sampled_from(["low", "central", "high"])


def worker_on(sink: Sink) -> tuple[Partition, Outcome]:
    partition = Partition("events", 0, estimator=default_estimator())
    records = [kafka_record(event, offset) for offset, event in enumerate(sink.events)]
    return partition, partition.apply(records, now=NOW, max_event_bytes=1_000_000)


@hypothesis_settings(deadline=None)
@given(calls, budgets, bounds)
def test_totals_and_breach_are_the_workers(
    made: list[tuple[TokenUsage, str, str, str]], budget_g: float | None, bound: str
) -> None:
    sink = Sink()
    policy = Policy.model_validate({"carbon_budget_g": budget_g, "bound": bound})
    run = Run("run-1", policy, default_estimator(), sink=sink)
    run.start("task")
    for usage, agent_id, model, region in made:
        run.record(usage, agent_id=agent_id, model=model, provider="", region=region)
    run.finish(RunStatus.COMPLETED, None)

    partition, outcome = worker_on(sink)

    theirs, ours = partition.runs["run-1"], run.totals
    assert outcome.letters == []
    for name in ("calls", "energy_wh", "carbon_g", "carbon_g_low", "carbon_g_high", "water_ml"):
        assert getattr(theirs, name) == getattr(ours, name)
    for name in ("tokens", "embodied_g", "known_cost_usd", "first_event_at", "last_event_at"):
        assert getattr(theirs.totals, name) == getattr(ours, name)
    assert theirs.spent_g == run.spent_g
    assert set(theirs.agents) == set(run.agent_ids)
    for agent_id, totals in theirs.agents.items():
        assert totals.dump() == run.agent_totals(agent_id).dump()
    assert bool(outcome.commands) is (run.stop is not None)


@pytest.mark.parametrize("local_enforcement", [True, False])
def test_the_workers_command_stops_the_run_that_caused_it(local_enforcement: bool) -> None:
    sink = Sink()
    run = Run(
        *("run-1", Policy(carbon_budget_g=0.001), default_estimator()),
        sink=sink,
        local_enforcement=local_enforcement,
    )
    run.start(None)
    run.record(TokenUsage(1000, 200), agent_id="a", model="large-70b", provider="", region="")
    _, outcome = worker_on(sink)

    run.obey(Command.model_validate_json(outcome.commands[0][1]))
    run.finish(RunStatus.ABORTED, "carbon_budget_exceeded")

    partition, _ = worker_on(sink)
    assert run.stop is not None
    assert run.stop.agent_id == "a"
    assert partition.runs["run-1"].acknowledged == "stopped"
    assert partition.runs["run-1"].status == "aborted"
