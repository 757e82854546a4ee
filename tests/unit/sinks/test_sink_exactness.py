"""However the log is repeated, and split into batches: the tables hold each record once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from marlin.sinks.conformance import (
    Recorded,
    acknowledged,
    batch_of,
    carbon,
    command,
    dead_letter,
    finished,
    identity,
    started,
)
from marlin.sinks.duckdb_sink import DuckDBSink

KINDS = ("usage", "usage", "usage", "started", "finished", "acknowledged", "refused")

TABLES = {
    "events": "SELECT * EXCLUDE (ingested_at) FROM events ORDER BY source_partition, source_offset",
    "runs": "SELECT * FROM runs ORDER BY run_id",
    "agents": "SELECT * FROM agents ORDER BY run_id, agent_id",
    "hourly": "SELECT * FROM hourly ORDER BY ALL",
    "daily": "SELECT * FROM daily ORDER BY ALL",
    "commands": "SELECT * FROM commands ORDER BY command_id",
    "dead_letters": "SELECT * EXCLUDE (ingested_at) FROM dead_letters "
    "ORDER BY topic, source_partition, source_offset",
}


@st.composite
def source_logs(draw: st.DrawFn) -> dict[int, list[Recorded]]:
    """Per partition, what is derived from each source offset."""
    logs: dict[int, list[Recorded]] = {}
    for partition in range(2):
        kinds = draw(st.lists(st.sampled_from(KINDS), max_size=12))
        logs[partition] = [
            _derived(kind, offset, partition, draw) for offset, kind in enumerate(kinds)
        ]
    return logs


def _derived(kind: str, offset: int, partition: int, draw: st.DrawFn) -> Recorded:
    run_id = draw(st.sampled_from([f"run-{partition}", f"run-{partition}-b"]))
    if kind == "usage":
        return carbon(
            offset,
            partition=partition,
            run_id=run_id,
            agent_id=draw(st.sampled_from(["agent-1", "agent-2"])),
            model=draw(st.sampled_from(["gpt-5", "llama-70b"])),
            carbon_g=draw(st.integers(0, 40)) / 4,
            cost_usd=draw(st.sampled_from([None, 0.25, 1.5])),
            tenant=draw(st.sampled_from([None, "acme", "other"])),
        )
    if kind == "refused":
        return dead_letter(offset, at=0, partition=partition)
    if kind == "started":
        return started(offset, partition=partition, run_id=run_id, task=f"task {offset}")
    if kind == "finished":
        return finished(offset, partition=partition, run_id=run_id, reason=f"reason {offset}")
    return acknowledged(offset, partition=partition, run_id=run_id)


def published(log: Sequence[Recorded], restarts: Sequence[tuple[int, int]]) -> list[Recorded]:
    """The log as a worker publishes it that is killed and resumes from an earlier offset."""
    order: list[Recorded] = []
    at = 0
    for reach, back in restarts:
        until = min(len(log), at + reach)
        order += log[at:until]
        at = max(0, until - back)
    order += log[at:]
    next_offset: dict[str, int] = {}
    placed: list[Recorded] = []
    for record in order:
        offset = next_offset.get(record.topic, 0)
        next_offset[record.topic] = offset + 1
        placed.append(
            Recorded(
                record.topic, record.partition, offset, record.value, record.key, record.headers
            )
        )
    return placed


def tables(batches: Sequence[Sequence[Recorded]], where: Path) -> dict[str, list[Any]]:
    with DuckDBSink(where) as sink:
        sink.bind(identity())
        for batch in batches:
            sink.apply(batch_of(*batch))
        with sink.cursor() as cursor:
            return {name: cursor.execute(sql).fetchall() for name, sql in TABLES.items()}


@settings(
    max_examples=12,
    deadline=None,
    # An example takes a second: shrinking one would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(data=st.data(), logs=source_logs())
def test_replays_and_splits_change_nothing(
    data: st.DataObject, logs: dict[int, list[Recorded]]
) -> None:
    commands = [command(at=0), command(at=0, partition=1)]
    once = tables([[*logs[0], *logs[1], *commands]], Path(":memory:"))

    restarts = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=3)
    streams = [published(logs[partition], data.draw(restarts)) for partition in (0, 1)]
    streams.append([command(at=0), command(at=1)])
    streams.append([command(at=0, partition=1)])
    batches: list[list[Recorded]] = []
    for taken in data.draw(st.lists(st.tuples(*[st.integers(0, 8)] * 4), max_size=4)):
        batch: list[Recorded] = []
        for index, count in enumerate(taken):
            batch += streams[index][:count]
            streams[index] = streams[index][count:]
        batches += [batch] * data.draw(st.integers(1, 2))  # stored, and perhaps given again
    batches.append([record for stream in streams for record in stream])
    assert tables(batches, Path(":memory:")) == once
