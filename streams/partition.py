"""The run table of one partition, and what a batch of its events does to it. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

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
from marlin.streams.totals import Footprint, footprint

__all__ = ["POSITION_KEY", "Letter", "Outcome", "Partition", "Row"]

POSITION_KEY = b""
"""Key of the partition's own row. A run_id is never empty, so no run can have it."""


class Row(NamedTuple):
    """A record for the changelog or the carbon or commands topic."""

    key: bytes
    value: bytes


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
    rows: list[Row] = field(default_factory=list[Row])
    """Changed rows; the partition's own position is the last."""
    counted: int = 0
    """Usage events counted [count]."""
    duplicates: int = 0
    """Repeated usage events dropped [count]."""


class Partition:
    """Runs and position of one partition of the events topic.

    Everything in it is a function of the log up to `position`, whatever was replayed.
    """

    def __init__(self, topic: str, number: int, *, estimator: Estimator) -> None:
        self.topic = topic
        self.number = number
        self.runs: dict[str, Run] = {}
        self.position = -1
        """Source offset last handled; -1 before the first."""
        self.skipped = 0
        """Offsets that were gone before they could be read [count]."""
        self._estimator = estimator

    def apply(
        self, records: Sequence[RawRecord], *, now: datetime, max_event_bytes: int
    ) -> Outcome:
        """Handle a batch: `records` in offset order. `now` stamps commands and dead letters."""
        outcome = Outcome()
        changed: dict[str, Run] = {}
        events = decode_batch(records, max_event_bytes=max_event_bytes)
        for record, event in zip(records, events, strict=True):
            if isinstance(event, Refusal):
                if record.offset > self.position:
                    outcome.letters.append(self._letter(record, event, now))
                continue
            run = self.runs.get(event.run_id)
            if run is None:
                run = self.runs[event.run_id] = Run(event.run_id)
            changed[event.run_id] = run
            # A replay changes nothing, but its row is written again: the first write may
            # belong to a batch that is not durable yet.
            if record.offset > run.position:
                self._apply_event(run, record.offset, event, outcome, now)
                run.position = record.offset
        self.position = max(self.position, records[-1].offset)
        outcome.rows.extend(
            Row(run_id.encode(), orjson.dumps(run.dump())) for run_id, run in changed.items()
        )
        outcome.rows.append(self._position_row(records[-1]))
        return outcome

    def recover(self, key: bytes, value: bytes | None) -> None:
        """Take a changelog record. The highest position wins, so a zombie's late write cannot."""
        if value is None:
            self.runs.pop(key.decode(), None)
            return
        dumped: dict[str, Any] = orjson.loads(value)
        if key == POSITION_KEY:
            self.position = max(self.position, dumped["p"])
            self.skipped = max(self.skipped, dumped["skipped"])
            return
        run_id = key.decode()
        known = self.runs.get(run_id)
        if known is None or dumped["p"] >= known.position:
            self.runs[run_id] = Run.load(run_id, dumped)

    def _apply_event(
        self, run: Run, offset: int, event: Event, outcome: Outcome, now: datetime
    ) -> None:
        source = f"{self.topic}-{self.number}-{offset}"
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
            topic=self.topic,
            partition=self.number,
            offset=record.offset,
            refused_at=now,
        )
        return Letter(record.key, record.value, letter.to_headers())

    def _position_row(self, last: RawRecord) -> Row:
        # The fingerprint tells a recreated topic from a continued one.
        row = {
            "v": 1,
            "p": self.position,
            "skipped": self.skipped,
            "offset": last.offset,
            "timestamp_ms": last.timestamp,
            "crc": zlib.crc32(last.value or b"", zlib.crc32(last.key or b"")),
        }
        return Row(POSITION_KEY, orjson.dumps(row))


def _carbon(usage: Usage, of: Footprint, by: Coefficients, source: str, run: Run) -> bytes:
    """The `Carbon` record. Built as a dict: a model per event would cost more than estimating
    it; a test holds it against the contract."""
    totals = run.totals
    record = usage.__dict__ | of._asdict()
    record["type"] = "carbon"
    record["source"] = source
    record["intensity_g_per_kwh"] = by.intensity_g_per_kwh
    record["method"] = by.method
    record["factors"] = by.factors
    record["quality"] = by.codes
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
