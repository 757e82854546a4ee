"""The run table of one partition, and what a batch of its events does to it. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Self

import orjson

from marlin.estimation import Coefficients, Estimator
from marlin.schemas import (
    Command,
    DeadLetter,
    Event,
    Lifecycle,
    Usage,
    command_id,
    dump,
)
from marlin.streams.decode import RawRecord, Refusal, decode_batch
from marlin.streams.run import Breach, Run
from marlin.totals import Footprint, footprint

__all__ = ["POSITION_KEY", "Fingerprint", "Letter", "Outcome", "Partition", "Row", "Tombstone"]

POSITION_KEY = b""
"""Key of the partition's own row. A run_id is never empty, so no run can have it."""


AFTER_FINISH = "after_finish"
"""Quality code of usage that came after its run's `run.finished`."""


class Row(NamedTuple):
    """A record for the changelog or the carbon or commands topic."""

    key: bytes
    value: bytes


class Tombstone(NamedTuple):
    """Takes a row out of the changelog."""

    key: bytes
    value: None = None


class Letter(NamedTuple):
    """A record for the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(slots=True)
class Outcome:
    """What a batch leads to. Outputs must be durable before `rows` are sent: a row that is
    durable promises that everything up to its position was published."""

    commands: list[Row] = field(default_factory=list[Row])
    carbon: list[Row] = field(default_factory=list[Row])
    letters: list[Letter] = field(default_factory=list[Letter])
    rows: list[Row | Tombstone] = field(default_factory=list[Row | Tombstone])
    """Changed rows; of a batch of events, the partition's own position is the last."""
    counted: int = 0
    """Usage events counted [count]."""
    duplicates: int = 0
    """Repeated usage events dropped [count]."""


class Fingerprint(NamedTuple):
    """What the log had at `offset`; a recreated topic has something else there, or nothing."""

    offset: int
    timestamp_ms: int
    crc: int

    @classmethod
    def of(cls, record: RawRecord) -> Self:
        """The fingerprint of `record`."""
        crc = zlib.crc32(record.value or b"", zlib.crc32(record.key or b""))
        return cls(record.offset, record.timestamp, crc)


class Partition:
    """Runs and position of one partition of the events topic.

    Everything durable in it is a function of the log up to `position`, whatever was replayed.
    """

    def __init__(self, topic: str, number: int, *, estimator: Estimator) -> None:
        self.number = number
        self.runs: dict[str, Run] = {}
        self.epoch = 0
        """How often the topic was recreated and continued."""
        self.position = -1
        """Source offset last handled; -1 before the first."""
        self.fingerprint: Fingerprint | None = None
        """Of the record at `position`."""
        self.skipped = 0
        """Offsets that were gone before they could be read [count]."""
        self._topic = topic
        self._estimator = estimator
        self._finished: dict[str, None] = {}
        """Finished runs, in the order they finished."""

    @property
    def source(self) -> str:
        """Names this log in positions: `topic-partition`, `topic@epoch-partition` when the
        topic was recreated (`@` cannot be in a topic's name)."""
        topic = f"{self._topic}@{self.epoch}" if self.epoch else self._topic
        return f"{topic}-{self.number}"

    def apply(
        self, records: Sequence[RawRecord], *, now: datetime, max_event_bytes: int
    ) -> Outcome:
        """Handle a batch: `records` in offset order. `now` stamps commands and dead letters."""
        outcome = Outcome()
        changed: dict[str, Run] = {}
        handled = self.position
        events = decode_batch(records, max_event_bytes=max_event_bytes)
        for record, event in zip(records, events, strict=True):
            offset = record.offset
            if isinstance(event, Refusal):
                if offset > handled:
                    outcome.letters.append(self._letter(record, event, now))
                continue
            run = self.runs.get(event.run_id)
            if run is None:
                if offset <= handled:
                    continue  # a replay of a run that has left the table
                run = Run(event.run_id, epoch=self.epoch, touched_at=now)
                self.runs[event.run_id] = run
            # A replay changes nothing, but its row is written again: the first write may
            # belong to a batch that is not durable yet.
            changed[event.run_id] = run
            if offset > handled and (run.epoch < self.epoch or offset > run.position):
                self._apply_event(run, offset, event, outcome, now)
                run.epoch, run.position, run.touched_at = self.epoch, offset, now
                if run.is_finished:
                    # To the end of the queue: it leaves a grace period after its last event.
                    self._finished.pop(event.run_id, None)
                    self._finished[event.run_id] = None
        if records[-1].offset > handled:
            self.position = records[-1].offset
            self.fingerprint = Fingerprint.of(records[-1])
        outcome.rows.extend(
            Row(run_id.encode(), orjson.dumps(run.dump())) for run_id, run in changed.items()
        )
        outcome.rows.append(self._position_row())
        return outcome

    def expire(self, *, finished_before: datetime, idle_before: datetime | None) -> Outcome:
        """Let runs leave that finished, or (if asked for) were last touched, before then.

        Their rows become tombstones; DuckDB keeps them. Looking for idle runs reads the whole
        table, so it is asked for seldom.
        """
        leaving: list[str] = []
        for run_id in self._finished:
            run = self.runs.get(run_id)
            if run is not None and run.touched_at >= finished_before:
                break
            leaving.append(run_id)
        for run_id in leaving:
            del self._finished[run_id]
        if idle_before is not None:
            leaving += [r.run_id for r in self.runs.values() if r.touched_at < idle_before]
        gone = [run_id for run_id in leaving if self.runs.pop(run_id, None) is not None]
        return Outcome(rows=[Tombstone(run_id.encode()) for run_id in gone])

    def continue_recreated(self) -> None:
        """Go on with a recreated topic from its start; totals of known runs are kept."""
        self.epoch += 1
        self.position = -1
        self.fingerprint = None

    def recover(self, key: bytes, value: bytes | None, *, now: datetime) -> None:
        """Take a changelog record. The highest position wins, so a zombie's late write cannot."""
        if value is None:
            self.runs.pop(key.decode(), None)
            return
        dumped: dict[str, Any] = orjson.loads(value)
        at = (dumped["e"], dumped["p"])
        if key == POSITION_KEY:
            if at >= (self.epoch, self.position):
                self.epoch, self.position = at
                self.fingerprint = Fingerprint(*dumped["at"]) if dumped["at"] else None
                self.skipped = dumped["skipped"]
            return
        run_id = key.decode()
        known = self.runs.get(run_id)
        if known is None or at >= (known.epoch, known.position):
            run = self.runs[run_id] = Run.load(run_id, dumped, touched_at=now)
            if run.is_finished:
                self._finished[run_id] = None

    def _apply_event(
        self, run: Run, offset: int, event: Event, outcome: Outcome, now: datetime
    ) -> None:
        source = f"{self.source}-{offset}"
        key = event.run_id.encode()
        if not isinstance(event, Usage):
            run.apply_lifecycle(event)
            forwarded = Lifecycle(source=source, run_id=event.run_id, event=event)
            outcome.carbon.append(Row(key, dump(forwarded)))
        elif run.is_new(event):
            by = self._estimator.coefficients(event.model, event.provider, event.region, event.time)
            of = footprint(event, by)
            run.count(event, of)
            outcome.counted += 1
            outcome.carbon.append(Row(key, _carbon(event, of, by, source, run)))
        else:
            outcome.duplicates += 1
            return
        for breach in run.breaches():
            outcome.commands.append(Row(key, dump(_command(run, breach, event, now))))

    def _letter(self, record: RawRecord, refusal: Refusal, now: datetime) -> Letter:
        letter = DeadLetter(
            step=refusal.step,
            reason=refusal.reason,
            topic=self.source.removesuffix(f"-{self.number}"),
            partition=self.number,
            offset=record.offset,
            refused_at=now,
        )
        return Letter(record.key, record.value, letter.to_headers())

    def _position_row(self) -> Row:
        row = {
            "v": 1,
            "e": self.epoch,
            "p": self.position,
            "at": self.fingerprint and list(self.fingerprint),
            "skipped": self.skipped,
        }
        return Row(POSITION_KEY, orjson.dumps(row))


def _carbon(usage: Usage, of: Footprint, by: Coefficients, source: str, run: Run) -> bytes:
    """The `Carbon` record. Built as a dict: a model per event would cost more than estimating
    it; a test holds it against the contract."""
    totals = run.totals
    record: dict[str, Any] = {"type": "carbon", "source": source, "usage": None}
    record["usage"] = usage.model_dump(exclude_none=True)
    record |= of._asdict()
    record["intensity_g_per_kwh"] = by.intensity_g_per_kwh
    record["method"] = by.method
    record["factors"] = by.factors
    record["quality"] = (*by.codes, AFTER_FINISH) if run.is_finished else by.codes
    record["run_calls"] = totals.calls
    record["run_energy_wh"] = totals.energy_wh
    record["run_carbon_g"] = totals.carbon_g
    record["run_water_ml"] = totals.water_ml
    return orjson.dumps(record, option=orjson.OPT_UTC_Z)


def _command(run: Run, breach: Breach, event: Event, now: datetime) -> Command:
    return Command(
        command_id=command_id(run.run_id, breach.cause),
        run_id=run.run_id,
        action="warn" if breach.is_warning else run.policy.action,
        reason=breach.cause,
        budget_g=breach.budget_g,
        spent_g=breach.spent_g,
        caused_by=event.event_id if isinstance(event, Usage) else None,
        issued_at=now,
    )
