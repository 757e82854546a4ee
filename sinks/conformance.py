"""The tests that every sink passes, and the records they are made of.

A sink's own test file subclasses `SinkConformance`, says how the sink is opened and read, and
pytest runs the rest. Amounts are multiples of 1/4, so that their sums are exact.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from marlin.schemas import (
    AbortAcknowledged,
    Carbon,
    Command,
    DeadLetter,
    Lifecycle,
    Policy,
    RunFinished,
    RunStarted,
    Usage,
    dump,
)
from marlin.sinks.batch import Batch, TopicPartition
from marlin.sinks.decode import decode
from marlin.sinks.identity import Identity, TopicIdentity
from marlin.sinks.sink import Sink
from marlin.topics import Topics

__all__ = [
    "NOON",
    "TOPICS",
    "Recorded",
    "SinkConformance",
    "acknowledged",
    "batch_of",
    "carbon",
    "command",
    "dead_letter",
    "finished",
    "identity",
    "started",
]

TOPICS = Topics()
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)

Event = RunStarted | RunFinished | AbortAcknowledged


@dataclass(frozen=True, slots=True)
class Recorded:
    """A Kafka record, made up."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = b"run-1"
    headers: Sequence[tuple[str, bytes | None]] = field(default=())
    timestamp: int = 1_777_636_800_000


def identity(cluster_id: str = "cluster-1", *, partitions: int = 2, **topic_ids: str) -> Identity:
    """A cluster with all topics; `topic_ids` (events, carbon, commands, deadletter) may differ."""
    names = ("events", "carbon", "commands", "deadletter")
    return Identity(
        cluster_id,
        {
            getattr(TOPICS, name): TopicIdentity(
                topic_ids.get(name, f"{name}-id"), tuple(range(partitions))
            )
            for name in names
        },
    )


def carbon(source: int, /, at: int | None = None, *, partition: int = 0, **fields: Any) -> Recorded:
    """The carbon record of the event at offset `source`, itself at offset `at`."""
    call: dict[str, Any] = {
        "event_id": f"event-{partition}-{source}",
        "run_id": f"run-{partition}",
        "agent_id": "agent-1",
        "producer_id": "producer-1",
        "seq": source,
        "time": NOON + timedelta(seconds=source),
        **{"provider": "openai", "model": "gpt-5", "region": "eu-west-1"},
        **{"input_tokens": 100, "cache_read_tokens": 10, "cache_write_tokens": 5},
        **{"output_tokens": 20, "reasoning_tokens": 2},
        **{"latency_s": 1.5, "cost_usd": 0.25, "tenant": "acme", "project": "search"},
    }
    derived: dict[str, Any] = {
        "source": f"{TOPICS.events}-{partition}-{source}",
        **{"energy_wh": 1.0, "energy_wh_low": 0.5, "energy_wh_high": 2.0},
        **{"carbon_g": 0.5, "carbon_g_low": 0.25, "carbon_g_high": 1.0},
        **{"embodied_g": 0.25, "embodied_g_low": 0.25, "embodied_g_high": 0.5},
        **{"water_ml": 2.0, "water_ml_low": 1.0, "water_ml_high": 4.0},
        **{"intensity_g_per_kwh": 400.0, "method": "m1", "factors": "f1"},
        **{"quality": ("region_year",), "run_calls": source + 1, "run_energy_wh": 1.0},
        **{"run_carbon_g": 0.5, "run_water_ml": 2.0},
    }
    for name, value in fields.items():
        (call if name in Usage.model_fields else derived)[name] = value
    value = dump(Carbon(usage=Usage(**call), **derived))
    return Recorded(TOPICS.carbon, partition, source if at is None else at, value)


def started(
    source: int, /, at: int | None = None, *, partition: int = 0, **fields: Any
) -> Recorded:
    """The record of a `run.started` at offset `source`."""
    values: dict[str, Any] = {
        "run_id": f"run-{partition}",
        "time": NOON,
        "task": "summarise",
        "tenant": "acme",
        "policy": Policy(carbon_budget_g=5.0, warn_at=(0.5,)),
    }
    return _lifecycle(source, at, partition, RunStarted(**(values | fields)))


def finished(
    source: int, /, at: int | None = None, *, partition: int = 0, **fields: Any
) -> Recorded:
    """The record of a `run.finished` at offset `source`."""
    values: dict[str, Any] = {
        "run_id": f"run-{partition}",
        "time": NOON + timedelta(hours=1),
        "status": "completed",
    }
    return _lifecycle(source, at, partition, RunFinished(**(values | fields)))


def acknowledged(
    source: int, /, at: int | None = None, *, partition: int = 0, **fields: Any
) -> Recorded:
    """The record of an `abort.acknowledged` at offset `source`."""
    values: dict[str, Any] = {
        "run_id": f"run-{partition}",
        "command_id": f"command-{partition}",
        "outcome": "stopped",
        "stopped_at": NOON + timedelta(minutes=2),
        **{"overshoot_g": 0.75, "overshoot_ms": 250.0},
    }
    return _lifecycle(source, at, partition, AbortAcknowledged(**(values | fields)))


def _lifecycle(source: int, at: int | None, partition: int, event: Event) -> Recorded:
    position = f"{TOPICS.events}-{partition}-{source}"
    value = dump(Lifecycle(source=position, run_id=event.run_id, event=event))
    return Recorded(TOPICS.carbon, partition, source if at is None else at, value)


def command(at: int, *, partition: int = 0, **fields: Any) -> Recorded:
    """An abort command at offset `at`."""
    values: dict[str, Any] = {
        "command_id": f"command-{partition}",
        "run_id": f"run-{partition}",
        "action": "abort",
        "reason": "carbon_budget_exceeded",
        "budget_g": 5.0,
        "spent_g": 5.25,
        "caused_by": f"event-{partition}-1",
        "issued_at": NOON + timedelta(minutes=1),
    }
    return Recorded(TOPICS.commands, partition, at, dump(Command(**(values | fields))))


def dead_letter(
    source: int, /, at: int, *, partition: int = 0, value: bytes | None = b"\xff\x00not json"
) -> Recorded:
    """The dead letter of the event at offset `source`, itself at offset `at`."""
    letter = DeadLetter(
        step="decode",
        reason="not JSON",
        topic=TOPICS.events,
        partition=partition,
        offset=source,
        refused_at=NOON,
    )
    return Recorded(
        TOPICS.deadletter, partition, at, value, key=b"\x01key", headers=letter.to_headers()
    )


def batch_of(*records: Recorded) -> Batch:
    """A batch of these records, as the consumer makes it."""
    chunks: dict[TopicPartition, list[Recorded]] = {}
    for record in records:
        chunks.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
    return decode(chunks.values(), TOPICS, NOON)


class SinkConformance:
    """Subclass it as `Test<Name>`, and say how the sink is opened and read."""

    random_splits = 5
    """How many ways of splitting records into batches are tried, the sink reopened after each."""

    def open_sink(self, where: Path) -> Sink:
        """Open the sink in this folder, made by an earlier call or not."""
        raise NotImplementedError

    def read(self, where: Path, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query while the sink is closed."""
        raise NotImplementedError

    def _take(self, where: Path, batches: Iterable[Batch], of: Identity | None = None) -> Any:
        sink = self.open_sink(where)
        try:
            positions = sink.bind(of or identity())
            for batch in batches:
                sink.apply(batch)
            return positions
        finally:
            sink.close()

    def _sums(self, where: Path) -> tuple[Any, ...]:
        """The same sum from all tables that hold it."""
        sums = {
            table: self.read(where, f"SELECT {what}, sum(input_tokens), sum(carbon_g) FROM {table}")
            for table, what in (
                ("events", "count(*)"),
                ("runs", "sum(calls)"),
                ("agents", "sum(calls)"),
                ("hourly", "sum(calls)"),
                ("daily", "sum(calls)"),
            )
        }
        assert all(of == sums["events"] for of in sums.values())
        return sums["events"][0]

    def test_a_new_sink_is_empty_and_closes(self, tmp_path: Path) -> None:
        assert self._take(tmp_path, []) == {}
        assert self.read(tmp_path, "SELECT count(*) FROM events") == [(0,)]

    def test_a_batch_is_in_every_table(self, tmp_path: Path) -> None:
        events = [carbon(n, partition=n % 2, carbon_g=0.25 * n) for n in range(10)]
        self._take(tmp_path, [batch_of(*events)])
        assert self._sums(tmp_path) == (10, 1000, 11.25)
        assert self.read(tmp_path, "SELECT run_id, calls FROM runs ORDER BY 1") == [
            ("run-0", 5),
            ("run-1", 5),
        ]

    def test_positions_are_there_after_reopening(self, tmp_path: Path) -> None:
        self._take(tmp_path, [batch_of(carbon(7, at=3), command(at=5, partition=1))])
        assert self._take(tmp_path, []) == {
            TopicPartition(TOPICS.carbon, 0): 4,
            TopicPartition(TOPICS.commands, 1): 6,
        }

    def test_what_comes_again_counts_once(self, tmp_path: Path) -> None:
        """Offsets of the events topic, in the order in which their records come:

        batch 1   0 1 2 3
        batch 2       2 3 4 5      the worker was restarted
        batch 3       2 3 4 5      this process was killed after batch 2 was stored
        batch 4             5 6 5 6
        """
        source_offsets = [[0, 1, 2, 3], [2, 3, 4, 5], [2, 3, 4, 5], [5, 6, 5, 6]]
        batches = [batch_of(*map(carbon, offsets)) for offsets in source_offsets]
        self._take(tmp_path, batches)
        assert self._sums(tmp_path) == (7, 700, 3.5)

    def test_any_split_gives_the_same_sums(self, tmp_path: Path) -> None:
        chance = random.Random(5)
        for case in range(self.random_splits):
            where = tmp_path / str(case)
            records = [carbon(n, partition=n % 2) for n in range(40)]
            while records:
                size = chance.randint(1, 20)
                batch, records = records[:size], records[chance.randint(1, size) :]
                self._take(where, [batch_of(*batch)])  # a crash after every batch
            assert self._sums(where) == (40, 4000, 20.0)

    def test_a_new_cluster_starts_anew_and_the_old_one_goes_on(self, tmp_path: Path) -> None:
        first = batch_of(carbon(0), carbon(1))
        self._take(tmp_path, [first])
        assert self._take(tmp_path, [first], identity("cluster-2")) == {}
        assert self._sums(tmp_path) == (4, 400, 2.0)
        assert self._take(tmp_path, [first]) == {TopicPartition(TOPICS.carbon, 0): 2}
        assert self._sums(tmp_path) == (4, 400, 2.0)

    def test_a_recreated_topic_starts_anew_alone(self, tmp_path: Path) -> None:
        self._take(tmp_path, [batch_of(carbon(0), carbon(1), command(at=0))])
        anew = identity(carbon="carbon-id-2", events="events-id-2")
        positions = self._take(tmp_path, [batch_of(carbon(0), command(at=0))], anew)
        assert positions == {TopicPartition(TOPICS.commands, 0): 1}
        assert self._sums(tmp_path) == (3, 300, 1.5)
        assert self.read(tmp_path, "SELECT count(*) FROM commands") == [(1,)]

    def test_a_run_ends_the_same_in_any_order(self, tmp_path: Path) -> None:
        begin = [started(0), carbon(1, tenant="other"), carbon(2), finished(3, status="aborted")]
        orders = [
            [begin, [command(at=0)], [acknowledged(4)]],
            [[command(at=0)], begin, [acknowledged(4), started(5), finished(6, status="aborted")]],
            [[command(at=0)], [carbon(0, tenant="other"), carbon(1), started(2)]],
            [[carbon(0, tenant="other"), started(1), carbon(2), acknowledged(3)], [command(at=0)]],
        ]
        rows = [self._run_row(tmp_path / str(case), batches) for case, batches in enumerate(orders)]
        reason, stopped_at = "carbon_budget_exceeded", NOON + timedelta(minutes=2)
        known = ("acme", 5.0, 2, "command-0")
        assert rows[0] == (*known, "aborted", reason, "stopped", stopped_at, 0.75)
        assert rows[1] == rows[0]
        assert rows[2] == (*known, "running", None, None, None, None)
        assert rows[3] == rows[0]

    def _run_row(self, where: Path, batches: list[list[Recorded]]) -> tuple[Any, ...]:
        self._take(where, [batch_of(*records) for records in batches])
        (row,) = self.read(
            where,
            "SELECT tenant, carbon_budget_g, calls, command_id, status, reason, ack_outcome, "
            "stopped_at, overshoot_g FROM runs",
        )
        return row

    def test_a_command_counts_once_with_its_answer(self, tmp_path: Path) -> None:
        later = NOON + timedelta(minutes=9)
        batches = [
            batch_of(acknowledged(0)),
            batch_of(command(at=0), command(at=1, issued_at=later)),
            batch_of(command(at=2, issued_at=later), acknowledged(1, outcome="already_finished")),
        ]
        self._take(tmp_path, batches)
        assert self.read(
            tmp_path, "SELECT command_id, action, issued_at, outcome, overshoot_g FROM commands"
        ) == [("command-0", "abort", NOON + timedelta(minutes=1), "stopped", 0.75)]
        assert self.read(tmp_path, "SELECT aborted_at FROM runs") == [
            (NOON + timedelta(minutes=1),)
        ]

    def test_an_escalation_is_told_and_changes_nothing_else(self, tmp_path: Path) -> None:
        early, late = NOON + timedelta(minutes=3), NOON + timedelta(minutes=4)
        self._take(
            tmp_path,
            [
                batch_of(command(at=0, action="escalate", command_id="e2", issued_at=late)),
                batch_of(command(at=1), acknowledged(0)),
                batch_of(command(at=2, action="escalate", command_id="e1", issued_at=early)),
            ],
        )
        assert self.read(
            tmp_path, "SELECT status, command_id, escalated_at, overshoot_ms FROM runs"
        ) == [("aborted", "command-0", early, 250.0)]

    def test_refused_records_keep_their_bytes(self, tmp_path: Path) -> None:
        large = b"\xff" * 2_000_000
        refused = batch_of(
            dead_letter(3, at=0, value=large),
            dead_letter(4, at=1, value=None),
            dead_letter(3, at=2, value=large),
            Recorded(TOPICS.carbon, 0, 0, b"\xff{"),
        )
        self._take(tmp_path, [refused, refused])
        rows = self.read(
            tmp_path,
            "SELECT step, topic, source_offset, key, octet_length(value), value FROM dead_letters "
            "ORDER BY topic DESC, source_offset",
        )
        assert rows == [
            ("decode", TOPICS.events, 3, b"\x01key", 2_000_000, large),
            ("decode", TOPICS.events, 4, b"\x01key", None, None),
            ("sink", TOPICS.carbon, 0, b"run-1", 2, b"\xff{"),
        ]
