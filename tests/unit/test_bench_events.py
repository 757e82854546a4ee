"""The events of the benchmarks: their size and spread, the contract, the same each time."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from marlin.schemas import EVENTS, RunStarted, Usage

MODULE = Path(__file__).parents[2] / "bench" / "trace_events.py"


def load_module() -> Any:
    spec = importlib.util.spec_from_file_location("trace_events", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TRACE_EVENTS = load_module()


def events_of(records: list[tuple[bytes, bytes]]) -> list[Any]:
    return list(EVENTS.validate_json(b"[" + b",".join(value for _, value in records) + b"]"))


def test_runs_begin_with_their_budget_and_go_round_robin() -> None:
    records = TRACE_EVENTS.Fleet(runs=10, agents=3).take(110)

    events = events_of(records)
    started = [event for event in events if isinstance(event, RunStarted)]
    calls = [event for event in events if isinstance(event, Usage)]
    assert [key.decode() for key, _ in records] == [event.run_id for event in events]
    assert len(started) == 10
    assert {event.policy.carbon_budget_g for event in started} == {1e9}
    # Four fleets take turns: the first two have three runs, the others two.
    counts = sorted(Counter(call.run_id for call in calls).values())
    assert counts == [8, 8, 8, 8, 9, 9, 12, 12, 13, 13]
    assert Counter(call.agent_id for call in calls).keys() == {"agent-1", "agent-2", "agent-3"}


def test_no_event_would_be_dropped_as_a_repeat() -> None:
    fleet = TRACE_EVENTS.Fleet(runs=7)

    calls = [event for event in events_of(fleet.take(3000)) if isinstance(event, Usage)]
    assert len({call.event_id for call in calls}) == len(calls) == 2993
    last: dict[str, int] = {}
    for call in calls:
        assert call.seq == last.get(call.run_id, -1) + 1
        last[call.run_id] = call.seq


def test_an_event_takes_about_228_bytes() -> None:
    calls = [v for _, v in TRACE_EVENTS.Fleet(runs=1000).take(21_000) if b'"usage"' in v]

    assert len(calls) == 20_000
    assert statistics.mean(map(len, calls)) == pytest.approx(228, abs=3)


def test_the_same_arguments_give_the_same_bytes() -> None:
    one, another = TRACE_EVENTS.Fleet(runs=50), TRACE_EVENTS.Fleet(runs=50)

    assert one.take(500) + one.take(500) == another.take(1000)
    assert TRACE_EVENTS.Fleet(runs=50, name="x").take(1)[0][0] != one.take(1)[0][0]


def test_without_traces_the_rows_are_like_them(tmp_path: Path) -> None:
    rows = TRACE_EVENTS.trace_rows(tmp_path)

    assert rows == TRACE_EVENTS.synthetic_rows() == sorted(rows)
    assert len(rows) == 28_000
    assert statistics.median(row.input_tokens for row in rows) == pytest.approx(1046, rel=0.05)
    assert statistics.median(row.output_tokens for row in rows) == pytest.approx(90, rel=0.05)


def test_traces_are_read_by_time(tmp_path: Path) -> None:
    for name, time in (("code", "18:17:04"), ("conv", "18:15:46")):
        (tmp_path / f"azure_llm_trace_2023_{name}.csv").write_text(
            f"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 {time}.5,374,44\n"
        )

    assert [row.time.minute for row in TRACE_EVENTS.trace_rows(tmp_path)] == [15, 17]
