"""The DuckLake sink: several processes take in batches at once, each batch whole or not at all."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

import duckdb

from marlin.errors import SinkError
from marlin.schemas import Command, Lifecycle, SourcePosition
from marlin.settings import SinkSettings
from marlin.sinks import merge
from marlin.sinks.arrow import ArrowTable, arrow
from marlin.sinks.batch import Applied, Batch, Refusal, TopicPartition
from marlin.sinks.batch_tables import facts_table, refusals_table, with_source_id
from marlin.sinks.dedup import fresh_lifecycle, fresh_refusals, fresh_usages
from marlin.sinks.duckdb_sink import SinkOutOfMemoryError
from marlin.sinks.facts import CommandFacts, RunFacts, fold_commands, fold_runs
from marlin.sinks.grid import INSERT_GRID, fresh_grid, grid_table
from marlin.sinks.identity import Identity
from marlin.sinks.lake import parts
from marlin.sinks.lake.factor_sets import LakeFactorSets
from marlin.sinks.lake.location import lake_location
from marlin.sinks.lake.opening import lake_cursor, open_lake
from marlin.sinks.lake.positions import LakePositions
from marlin.sinks.lake.schema import is_current, make_schema, seed_turns
from marlin.sinks.lake.upkeep import merge_parts, tidy_files
from marlin.sinks.stored import check_same_events, unstored_commands

__all__ = ["DuckLakeSink"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_CONFLICT = re.compile(
    r"transaction conflict|database is locked|could not serialize|deadlock detected"
    r"|maximum retry count|write-write conflict",
    re.IGNORECASE,
)
"""What a transaction fails with when another one was faster. Nothing of it is stored."""

_TRY_FOR_S = 120.0
_LONGEST_PAUSE_S = 1.0


class DuckLakeSink:
    """A lake that takes in batches, from this and other sinks. See `marlin.sinks.sink.Sink`.

    Sinks of different partitions do not wait for each other. Of two sinks that take in the same
    partition, the second one's `apply` raises `SinkConflictError`: nothing of its batch is stored,
    and `bind` gives the positions as they are now.

    Raises on construction: `ConfigurationError` when a setting or an extension is missing,
    `SchemaTooNewError` when a newer Marlin wrote the lake, `SinkError` when the catalogue or the
    store cannot be reached.
    """

    def __init__(self, settings: SinkSettings) -> None:
        self.location = lake_location(settings)
        self._settings = settings
        self._tidy_at_s = time.monotonic() + settings.lake_tidy_interval_s
        self._connection = open_lake(settings)
        try:
            self._prepare()
            self._positions = LakePositions(self._connection)
            self._factor_sets = LakeFactorSets(self._connection)
            self._transaction(self._factor_sets.open)
            self._reader = lake_cursor(self._connection)
        except duckdb.Error as exc:
            self._connection.close()
            raise self._refused(exc) from exc
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for a query, beside whatever the sink is doing."""
        return lake_cursor(self._reader)

    def bind(self, identity: Identity) -> dict[TopicPartition, int]:
        """See `Sink.bind`. Reads the positions anew, whatever this sink knew of them."""
        self._transaction(lambda: self._positions.bind(identity))
        return dict(self._positions.read)

    def apply(self, batch: Batch) -> Applied:
        """See `Sink.apply`. Only the partitions of the batch are touched.

        Raises `SinkConflictError` when another sink has taken in one of them since `bind`, and
        `SinkOutOfMemoryError` when trying again may help.
        """
        moved = self._positions.moving()
        usages, repeated, reached = fresh_usages(batch.usages, moved.applied)
        lifecycle, reached_too = fresh_lifecycle(batch.lifecycle, moved.applied)
        refusals, refused = fresh_refusals(batch.refusals, moved.refused, moved.read)
        grid = fresh_grid(batch.grid, moved.read)
        moved.advance(applied=(reached, reached_too), refused=refused, read=batch.next_offsets)
        self._meet({where.topic for _, where in moved.changed})
        if time.monotonic() >= self._tidy_at_s:
            self.tidy()
        used = self._factor_sets.unlisted(usages)

        def store() -> int:
            commands = unstored_commands(self._connection, batch.commands, table="parts.commands")
            self._check_same_events(repeated)
            self._positions.store(moved)
            self._add_usages(usages)
            self._add_facts(lifecycle, commands)
            self._add_refusals(refusals)
            if grid:
                self._run([INSERT_GRID], batch_grid=grid_table(grid))
            self._factor_sets.record(used)
            return len(commands)

        new_commands = self._transaction(store)
        self._positions.become(moved)
        self._factor_sets.learn(used)
        return Applied(
            events=usages.num_rows,
            lifecycle=len(lifecycle),
            commands=new_commands,
            refusals=len(refusals),
            grid=len(grid),
            duplicates=repeated.num_rows + len(batch.lifecycle) - len(lifecycle),
        )

    def tidy(self) -> None:
        """Merge small parts and files. Changes no result; left for later when others are at it.

        `apply` does it every `MARLIN_SINK__LAKE_TIDY_INTERVAL_S`.
        """
        self._tidy_at_s = time.monotonic() + self._settings.lake_tidy_interval_s
        try:
            self._transaction(lambda: merge_parts(self._connection))
            tidy_files(self._connection)
        except (SinkError, duckdb.Error) as exc:
            log.info("the lake was not tidied: %s", self.location.without_password(str(exc)))

    def close(self) -> None:
        """See `Sink.close`. Queries that still run are interrupted."""
        self._reader.interrupt()
        self._reader.close()
        self._connection.close()

    def _prepare(self) -> None:
        if not is_current(self._connection):
            self._transaction(self._make_schema)
        self._transaction(lambda: seed_turns(self._connection))

    def _make_schema(self) -> None:
        if not is_current(self._connection):  # another sink may have been faster
            make_schema(self._connection)

    def _meet(self, topics: set[str]) -> None:
        """Give topics that were never met a source; apart, so that a failing batch keeps it."""
        unmet = self._positions.unmet(topics)
        if unmet:
            self._positions.learn(self._transaction(lambda: self._positions.make(unmet)))

    def _transaction(self, work: Callable[[], _T]) -> _T:
        """Run `work` in a transaction, again while it fails because another one was faster."""
        give_up_s, pause_s = time.monotonic() + _TRY_FOR_S, 0.01
        while True:
            try:
                return self._attempt(work)
            except duckdb.OutOfMemoryException as exc:
                raise SinkOutOfMemoryError(
                    f"{self.location}: DuckDB is out of memory; nothing of the batch was stored: "
                    f"{exc}"
                ) from exc
            except duckdb.Error as exc:
                if not _CONFLICT.search(str(exc)) or time.monotonic() > give_up_s:
                    raise self._refused(exc) from exc
                log.debug("another transaction was faster (%s); trying again", exc)
            # A random share, else two sinks that met once would meet again.
            time.sleep(random.uniform(0, pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _attempt(self, work: Callable[[], _T]) -> _T:
        self._connection.begin()
        try:
            done = work()
            self._connection.commit()
        except BaseException:
            with suppress(duckdb.Error):  # a failed commit has rolled back already
                self._connection.rollback()
            raise
        return done

    def _refused(self, exc: duckdb.Error) -> SinkError:
        told = self.location.without_password(str(exc))
        return SinkError(
            f"the lake at {self.location} refused a batch, nothing of it was stored: {told}"
        )

    def _run(self, statements: Iterable[str], **tables: ArrowTable) -> None:
        """Execute with Arrow tables visible under these names."""
        for name, table in tables.items():
            self._connection.register(name, table)
        try:
            for statement in statements:
                self._connection.execute(statement)
        finally:
            for name in tables:
                self._connection.unregister(name)

    def _add_usages(self, usages: ArrowTable) -> None:
        if usages.num_rows:
            self._run(
                (merge.INSERT_EVENTS, parts.INSERT_AGENTS, parts.INSERT_HOURLY),
                batch_usages=with_source_id(usages, self._positions.source_id),
            )

    def _add_facts(self, lifecycle: Sequence[Lifecycle], commands: Sequence[Command]) -> None:
        places = {record.run_id: SourcePosition.parse(record.source) for record in lifecycle}
        for name, rows in (
            ("runs", fold_runs(lifecycle, commands)),
            ("commands", fold_commands(lifecycle, commands)),
        ):
            if rows:
                table = self._placed(rows, places)
                self._run([f"INSERT INTO parts.{name} BY NAME FROM batch_facts"], batch_facts=table)

    def _placed(
        self, rows: Sequence[RunFacts] | Sequence[CommandFacts], places: dict[str, SourcePosition]
    ) -> ArrowTable:
        """The rows with the last place of their run's lifecycle records, if the batch has any."""
        found = [places.get(row.run_id) for row in rows]
        ids = [self._positions.source_id(place.topic) if place else None for place in found]
        offsets = [place.offset if place else None for place in found]
        table: Any = facts_table(rows)
        table = table.append_column("source_id", arrow.array(ids, arrow.int32()))
        return table.append_column("source_offset", arrow.array(offsets, arrow.int64()))

    def _add_refusals(self, refusals: Sequence[Refusal]) -> None:
        if refusals:
            table = refusals_table(refusals, self._positions.source_id)
            self._run([merge.INSERT_REFUSALS], batch_refusals=table)

    def _check_same_events(self, repeated: ArrowTable) -> None:
        """See `check_same_events`."""
        if repeated.num_rows:
            table = with_source_id(repeated, self._positions.source_id)
            check_same_events(self._connection, table)
