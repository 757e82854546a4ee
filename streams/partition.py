"""The run table of one partition, and what a batch of its events does to it. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Self

import orjson

from marlin.estimation import Estimator
from marlin.schemas import Command, DeadLetter, Lifecycle, Usage, command_id, dump
from marlin.streams.call import Call, encode_call
from marlin.streams.carbon import Figures, encode_figures
from marlin.streams.decode import Decoded, RawRecord, Refusal, decode_batch
from marlin.streams.escalation import Unanswered, escalation
from marlin.streams.grid import HourlyValues
from marlin.streams.run import Breach, Run
from marlin.streams.tariff import Tariffs

__all__ = ["POSITION_KEY", "Fingerprint", "Letter", "Outcome", "Partition", "Row", "TableRow"]

POSITION_KEY = b""
"""Key of the partition's own row. A run_id is never empty, so no run can have it."""


Row = tuple[bytes, bytes]
"""Key and value of a record for the carbon or commands topic."""

TableRow = tuple[bytes, bytes | None]
"""The same for the changelog. Without a value it takes a row out of it (a tombstone)."""


class Letter(NamedTuple):
    """A record for the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


_USAGE = (Call, Usage)


@dataclass(slots=True)
class Outcome:
    """What a batch leads to. Outputs must be durable before `rows` are sent: a row that is
    durable promises that everything up to its position was published."""

    commands: list[Row] = field(default_factory=list[Row])
    carbon: list[Row] = field(default_factory=list[Row])
    letters: list[Letter] = field(default_factory=list[Letter])
    rows: list[TableRow] = field(default_factory=list[TableRow])
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

    Everything durable in it is a function of the log up to `position`, whatever was replayed;
    but for `breached_at` and `escalated` in a run's row, which tell of time.
    """

    def __init__(
        self,
        topic: str,
        number: int,
        *,
        estimator: Estimator,
        grid: HourlyValues | None = None,
    ) -> None:
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
        self._source = b""
        """`source` as it is while a batch is handled."""
        self._tariffs = Tariffs(estimator, grid)
        self._finished: dict[str, None] = {}
        """Finished runs, in the order they finished."""
        self._unanswered = Unanswered()

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
        runs, handled = self.runs, self.position
        self._source = self.source.encode()
        events = decode_batch(records, max_event_bytes=max_event_bytes)
        for record, event in zip(records, events, strict=True):
            offset = record.offset
            if isinstance(event, Refusal):
                if offset > handled:
                    outcome.letters.append(self._letter(record, event, now))
                continue
            run_id = event.run_id
            run = runs.get(run_id)
            if run is None:
                if offset <= handled:
                    continue  # a replay of a run that has left the table
                run = runs[run_id] = Run(run_id, epoch=self.epoch, touched_at=now)
            # A replay changes nothing, but its row is written again: the first write may
            # belong to a batch that is not durable yet.
            changed[run_id] = run
            if offset > handled and (offset > run.position or run.epoch < self.epoch):
                self._apply_event(run, record, event, outcome, now)
                run.epoch, run.position, run.touched_at = self.epoch, offset, now
        if records[-1].offset > handled:
            self.position = records[-1].offset
            self.fingerprint = Fingerprint.of(records[-1])
        for run_id, run in changed.items():
            outcome.rows.append((run_id.encode(), run.dump()))
            if run.is_finished:
                # To the end of the queue: it leaves a grace period after its last event.
                self._finished.pop(run_id, None)
                self._finished[run_id] = None
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
        return Outcome(rows=[(run_id.encode(), None) for run_id in gone])

    def escalate(self, *, commanded_until: datetime, now: datetime) -> Outcome:
        """Tell operators, once per run, of those that were commanded to abort at or before then
        and have not acknowledged it."""
        outcome = Outcome()
        for run in self._unanswered.overdue(self.runs, commanded_until=commanded_until):
            run.escalated = True
            key = run.run_id.encode()
            outcome.commands.append((key, dump(escalation(run, now=now))))
            outcome.rows.append((key, run.dump()))
        return outcome

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
        if key == POSITION_KEY:
            self._recover_position(orjson.loads(value))
            return
        run = Run.load(key.decode(), orjson.loads(value), touched_at=now)
        known = self.runs.get(run.run_id)
        if known is None or (run.epoch, run.position) >= (known.epoch, known.position):
            self.runs[run.run_id] = run
            self._unanswered.add(run)
            if run.is_finished:
                self._finished[run.run_id] = None

    def _recover_position(self, row: dict[str, Any]) -> None:
        if (row["e"], row["p"]) >= (self.epoch, self.position):
            self.epoch, self.position = row["e"], row["p"]
            self.fingerprint = Fingerprint(*row["at"]) if row["at"] else None
            self.skipped = row["skipped"]

    def _apply_event(
        self, run: Run, record: RawRecord, event: Decoded, outcome: Outcome, now: datetime
    ) -> None:
        key = record.key
        assert key is not None  # decoding has compared it with the run_id
        if isinstance(event, _USAGE):
            if not run.is_new(event):
                outcome.duplicates += 1
                return
            outcome.counted += 1
            outcome.carbon.append((key, self._count(run, record, event)))
            if run.carbon_g_high < run.watch_g:
                return
        else:
            run.apply_lifecycle(event)
            source = f"{self.source}-{record.offset}"
            forwarded = Lifecycle(source=source, run_id=run.run_id, event=event)
            outcome.carbon.append((key, dump(forwarded)))
        if run.spent_g >= run.watch_g:
            for breach in run.breaches(now):
                outcome.commands.append((key, dump(_command(run, breach, event, now))))
            self._unanswered.add(run)

    def _count(self, run: Run, record: RawRecord, call: Call | Usage) -> bytes:
        """Count `call`; returns its `Carbon` record, which a test holds against the contract.

        Most of it is bytes that are there already: the event as it came, and what its
        coefficients say of every call.
        """
        tariff = self._tariffs.of(
            call.model, call.provider, call.region, call.time, record.timestamp
        )
        of = tariff.ranged(
            call.input_tokens, call.cache_read_tokens, call.cache_write_tokens, call.output_tokens
        )
        run.count(call, of)
        figures = encode_figures(Figures(*of, run.calls, run.energy_wh, run.carbon_g, run.water_ml))
        return b'{"type":"carbon","source":"%b-%d","usage":%b%b%b' % (
            self._source,
            record.offset,
            _usage_bytes(record, call),
            tariff.said_late if run.is_finished else tariff.said,
            figures[1:],
        )

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
        return POSITION_KEY, orjson.dumps(row)


def _usage_bytes(record: RawRecord, call: Call | Usage) -> bytes:
    # Asked first: `isinstance` of a pydantic model takes a third of a microsecond.
    if not isinstance(call, Call):
        return dump(call)
    if call.labels is None and record.value is not None:
        return record.value
    return encode_call(call)  # readers look for labels where the contract has them


def _command(run: Run, breach: Breach, event: Decoded, now: datetime) -> Command:
    return Command(
        command_id=command_id(run.run_id, breach.cause),
        run_id=run.run_id,
        action="warn" if breach.is_warning else run.policy.action,
        reason=breach.cause,
        budget_g=breach.budget_g,
        spent_g=breach.spent_g,
        caused_by=event.event_id if isinstance(event, _USAGE) else None,
        issued_at=now,
    )
