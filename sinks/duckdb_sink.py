"""The DuckDB sink: a batch is one transaction of rows, aggregates and positions."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import duckdb

from marlin.errors import SinkError
from marlin.restatement.core import Restatement
from marlin.schemas import Command, Lifecycle
from marlin.settings import SinkSettings
from marlin.sinks import merge
from marlin.sinks.adjusting import write_restatement
from marlin.sinks.arrow import ArrowTable
from marlin.sinks.batch import Applied, Batch, Refusal, TopicPartition
from marlin.sinks.batch_tables import facts_table, refusals_table, with_source_id
from marlin.sinks.database import open_database
from marlin.sinks.dedup import fresh_lifecycle, fresh_refusals, fresh_usages
from marlin.sinks.factor_sets import FactorSets
from marlin.sinks.facts import fold_commands, fold_runs
from marlin.sinks.grid import INSERT_GRID, fresh_grid, grid_table
from marlin.sinks.identity import Identity
from marlin.sinks.migrations import migrate
from marlin.sinks.positions import Positions
from marlin.sinks.stored import check_same_events, unstored_commands

__all__ = ["DuckDBSink", "SinkOutOfMemoryError"]

_DEFAULT_LIMITS = SinkSettings()


class SinkOutOfMemoryError(SinkError):
    """DuckDB's memory is taken, by queries as a rule. Nothing of the batch was stored."""


class DuckDBSink:
    """A DuckDB file that takes in batches. See `marlin.sinks.sink.Sink` for the contract.

    Raises on construction: `DatabaseLockedError` when another process has the file,
    `SchemaTooNewError` when a newer Marlin wrote it, `SinkError` when it is no DuckDB file.
    """

    def __init__(
        self, path: Path, *, wait_s: float = 0.0, limits: SinkSettings = _DEFAULT_LIMITS
    ) -> None:
        self.path = path
        self._turn = threading.Lock()
        self._connection = open_database(path, wait_s=wait_s, limits=limits)
        try:
            migrate(self._connection)
            self._positions = Positions(self._connection)
            self._factor_sets = FactorSets(self._connection)
            with self._transaction():
                self._factor_sets.open()
            # Queries are cursors of a connection that no transaction of the sink ever holds.
            self._reader = self._connection.cursor()
        except duckdb.Error as exc:
            self._connection.close()
            raise SinkError(f"{path} could not be prepared: {exc}; nothing was read") from exc
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for a query, beside whatever the sink is doing."""
        return self._reader.cursor()

    def bind(self, identity: Identity) -> dict[TopicPartition, int]:
        """See `Sink.bind`."""
        with self._transaction():
            self._positions.bind(identity)
        return dict(self._positions.read)

    def apply(self, batch: Batch) -> Applied:
        """See `Sink.apply`. Raises `SinkOutOfMemoryError` when trying again may help."""
        moved = self._positions.moving()
        usages, repeated, reached = fresh_usages(batch.usages, moved.applied)
        lifecycle, reached_too = fresh_lifecycle(batch.lifecycle, moved.applied)
        refusals, refused = fresh_refusals(batch.refusals, moved.refused, moved.read)
        grid = fresh_grid(batch.grid, moved.read)
        moved.advance(applied=(reached, reached_too), refused=refused, read=batch.next_offsets)
        self._meet({where.topic for _, where in moved.changed})
        used = self._factor_sets.unlisted(usages)
        with self._transaction():
            commands = unstored_commands(self._connection, batch.commands, table="commands")
            self._add_usages(usages)
            self._add_facts(lifecycle, commands)
            self._add_refusals(refusals)
            if grid:
                self._run(INSERT_GRID, batch_grid=grid_table(grid))
            self._check_same_events(repeated)
            self._factor_sets.record(used)
            self._positions.store(moved)
        self._positions.become(moved)
        self._factor_sets.learn(used)
        return Applied(
            events=usages.num_rows,
            lifecycle=len(lifecycle),
            commands=len(commands),
            refusals=len(refusals),
            duplicates=repeated.num_rows + len(batch.lifecycle) - len(lifecycle),
            grid=len(grid),
        )

    def adjust(self, restatement: Restatement) -> int:
        """Write a restatement in one transaction; gives the adjustments written [count].

        May be called from another thread while a batch is applied: it waits for that. Writing the
        same id again does nothing and gives 0. Raises `SinkError`, with nothing written, when
        another restatement of the same hours came since it was computed.
        """
        with self._transaction():
            return write_restatement(self._connection, restatement)

    def close(self) -> None:
        """See `Sink.close`. Queries that still run are interrupted."""
        self._reader.interrupt()
        self._reader.close()
        self._connection.close()

    def _meet(self, topics: set[str]) -> None:
        """Give topics that were never met a source; apart, so that a failing batch keeps it."""
        unmet = self._positions.unmet(topics)
        if unmet:
            with self._transaction():
                made = self._positions.make(unmet)
            self._positions.learn(made)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        try:
            # A restatement comes from another thread than the batches.
            with self._turn:
                self._connection.begin()
                try:
                    yield
                except BaseException:
                    self._connection.rollback()
                    raise
                self._connection.commit()
        except duckdb.OutOfMemoryException as exc:
            raise SinkOutOfMemoryError(
                f"{self.path}: DuckDB is out of memory; nothing of the batch was stored: {exc}"
            ) from exc
        except duckdb.Error as exc:
            raise SinkError(
                f"{self.path}: DuckDB refused a batch, nothing of it was stored: {exc}"
            ) from exc

    def _run(self, statement: str, **tables: ArrowTable) -> None:
        """Execute with Arrow tables visible under these names."""
        for name, table in tables.items():
            self._connection.register(name, table)
        try:
            self._connection.execute(statement)
        finally:
            for name in tables:
                self._connection.unregister(name)

    def _add_usages(self, usages: ArrowTable) -> None:
        if not usages.num_rows:
            return
        self._connection.register("batch_usages", with_source_id(usages, self._positions.source_id))
        try:
            for statement in (
                merge.INSERT_EVENTS,
                merge.MERGE_RUNS,
                merge.MERGE_AGENTS,
                merge.MERGE_HOURLY,
                merge.MERGE_DAILY,
            ):
                self._connection.execute(statement)
        finally:
            self._connection.unregister("batch_usages")

    def _add_facts(self, lifecycle: Iterable[Lifecycle], commands: Iterable[Command]) -> None:
        runs = fold_runs(lifecycle, commands)
        if runs:
            table = facts_table(runs)
            self._run(merge.MERGE_RUN_FACTS, batch_runs=table)
            self._run(merge.DERIVE_STATUS, batch_runs=table)
        rows = fold_commands(lifecycle, commands)
        if rows:
            self._run(merge.MERGE_COMMANDS, batch_commands=facts_table(rows))

    def _add_refusals(self, refusals: Sequence[Refusal]) -> None:
        if not refusals:
            return
        table = refusals_table(refusals, self._positions.source_id)
        self._run(merge.INSERT_REFUSALS, batch_refusals=table)

    def _check_same_events(self, repeated: ArrowTable) -> None:
        """See `check_same_events`."""
        if repeated.num_rows:
            table = with_source_id(repeated, self._positions.source_id)
            check_same_events(self._connection, table)
