"""The ledger as files, and what becomes of its old rows. See `docs/sql.md` for what is in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from marlin.errors import ConfigurationError, SinkError
from marlin.settings import Settings
from marlin.sinks.day_files import Position, Reach, day_folder, files_of, reach_of, write_day
from marlin.sinks.ledger_access import LedgerAccess, open_ledger
from marlin.sinks.ledger_rows import RowsOf
from marlin.sinks.removal import DayCount, Order, Reached, Table

__all__ = ["ExportedDay", "TrimmedDay", "export_parquet", "export_run_csv", "trim"]

_TABLES: tuple[Table, ...] = ("events", "dead_letters")


@dataclass(frozen=True, slots=True)
class TrimmedDay:
    """Rows of one table and day (UTC) that were removed, or would be."""

    table: Table
    day: date
    rows: int


@dataclass(frozen=True, slots=True)
class ExportedDay:
    """What became of one day (UTC)."""

    day: date
    rows: int
    """Rows that were exported now; 0: the folder had all of them already."""
    file: Path | None
    """The file that they are in."""
    removed: int
    """Rows that were removed from the database, also those that were exported earlier."""


def trim(
    before: date,
    *,
    settings: Settings | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _rows: None,
) -> list[TrimmedDay]:
    """Remove `events` and `dead_letters` of days (UTC) before `before`; aggregates stay.

    Through the running sink, or on the file when none runs. What was removed is counted in
    `ledger_removals`. `dry_run` only tells what would go. `progress` is called with the rows
    removed so far. Killed on the way, what was removed stays removed, whole pieces at a time.
    Raises `SinkError` when the database cannot be had.
    """
    removal_id = str(uuid4())
    trimmed: list[TrimmedDay] = []
    with open_ledger(settings or Settings(), writes=not dry_run) as ledger:
        for table in _TABLES:
            order = Order(removal_id, table, None, before, "trim")
            done = sum(one.rows for one in trimmed)
            days = ledger.count(order) if dry_run else _remove(ledger, order, done, progress)
            trimmed += [TrimmedDay(table, *day) for day in days]
    return trimmed


def _remove(
    ledger: LedgerAccess, order: Order, done: int, progress: Callable[[int], None]
) -> list[DayCount]:
    days: dict[date, int] = {}
    while removed := ledger.remove_piece(order):
        for day, rows in removed:
            days[day] = days.get(day, 0) + rows
        progress(done + sum(days.values()))
    return [DayCount(*day) for day in sorted(days.items())]


def export_parquet(
    directory: Path,
    *,
    settings: Settings | None = None,
    first: date | None = None,
    last: date | None = None,
    trim: bool = False,
    progress: Callable[[ExportedDay], None] = lambda _day: None,
) -> list[ExportedDay]:
    """Write `events` as Parquet, a folder a day: `directory/day=2026-05-01/events-000001.parquet`.

    Days (UTC) from `first` to `last`, both inclusive; unset: from the oldest to yesterday. Only
    days that are over. Exported again, a day gets a further file with what came since, if anything
    did: together a day's files have each event once. A file that is there is whole. With `trim`,
    rows are removed from the database once they are on disk, and only those.

    Works through the running sink, or on the file when none runs. `progress` is called after each
    day. Raises `SinkError` when the database cannot be had or a file in the folder is not of an
    export, `ConfigurationError` for a period or a folder that cannot be exported.
    """
    end = _end_of(first, last)
    exported: list[ExportedDay] = []
    with open_ledger(settings or Settings(), writes=trim) as ledger, _owned(directory):
        everything = Order(
            str(uuid4()), "events", first, end, "trim", exported_to=str(directory.resolve())
        )
        for day, _ in ledger.count(everything):
            done = _export_day(ledger, directory, day)
            if trim:
                order = replace(everything, begin=day, end=day + timedelta(days=1))
                done = replace(done, removed=_remove_exported(ledger, directory, order))
            exported.append(done)
            progress(done)
    return exported


def _end_of(first: date | None, last: date | None) -> date:
    today = datetime.now(UTC).date()
    if last is not None and last >= today:
        raise ConfigurationError(
            f"only days that are over (UTC) can be exported, the last is {today - timedelta(1)}; "
            f"asked for {last}, nothing was exported"
        )
    if first is not None and last is not None and first > last:
        raise ConfigurationError(f"{first} is after {last}; nothing was exported")
    return today if last is None else last + timedelta(days=1)


@contextmanager
def _owned(directory: Path) -> Generator[None]:
    """One export to a folder at a time."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / ".marlin-export.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        raise ConfigurationError(
            f"{directory} cannot be exported to: {exc}; nothing was exported"
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise SinkError(
            f"another export to {directory} is under way; nothing was exported"
        ) from exc
    finally:
        os.close(lock)


def _export_day(ledger: LedgerAccess, directory: Path, day: date) -> ExportedDay:
    folder = day_folder(directory, day)
    known = _in_database(ledger, reach_of(files_of(folder)))
    schema, batches = ledger.rows(RowsOf(day, known))
    # After the rows: every source that they name is there by now.
    sources = {source.source_id: source for source in ledger.sources()}
    try:
        written = write_day(folder, day, schema, batches, sources)
    except OSError as exc:
        raise SinkError(
            f"{day} could not be written to {folder}: {exc}; days before it are exported"
        ) from exc
    if written is None:
        return ExportedDay(day, 0, None, 0)
    file, rows, _ = written
    return ExportedDay(day, rows, file, 0)


def _remove_exported(ledger: LedgerAccess, directory: Path, order: Order) -> int:
    """Remove the rows of one day that its files have."""
    assert order.begin is not None
    reach = reach_of(files_of(day_folder(directory, order.begin)))
    exact = replace(order, reached=_in_database(ledger, reach))
    return sum(day.row_count for day in _remove(ledger, exact, 0, lambda _: None))


def _in_database(ledger: LedgerAccess, reach: Reach) -> tuple[Reached, ...]:
    """The same positions by the numbers that this database gave to its sources."""
    return tuple(
        Reached(source.source_id, place.partition, offset)
        for source in ledger.sources()
        for place, offset in reach.items()
        if place == Position(*source[1:], place.partition)
    )


def export_run_csv(run_id: str, *, settings: Settings | None = None) -> str:
    """A run's accounts as CSV: see `marlin.reports`. While the pipeline runs, or not.

    Raises `DataError` for an unknown run, `QueryError` and `SinkError` as `marlin.query.query`.
    """
    from marlin.reports import ESGReporter

    return ESGReporter(settings).generate(run_id=run_id, format="csv")
