"""The ledger's rows of one day as Parquet files: `day=2026-05-01/events-000001.parquet`.

A file is never changed. Rows that come later for the same day go into a further file; which those
are is decided by the source positions that each file's metadata says it reaches to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import pyarrow.parquet  # type: ignore[import-untyped]

from marlin.errors import SinkError
from marlin.sinks.arrow import arrow
from marlin.sinks.ledger_rows import Source

__all__ = ["Position", "Reach", "day_folder", "files_of", "reach_of", "write_day"]

arrow_parquet: Any = pyarrow.parquet

_METADATA: Final = b"marlin.ledger"
_POSITION: Final = ("source_id", "source_partition", "source_offset")


class Position(NamedTuple):
    """A partition of a topic as it existed: the same in every database."""

    cluster_id: str
    topic: str
    topic_id: str | None
    partition: int


Reach = dict[Position, int]
"""By partition, the highest offset that is in the files, inclusive."""


def day_folder(directory: Path, day: date) -> Path:
    """The folder of a day, as DuckDB, Spark and Trino read partitions."""
    return directory / f"day={day.isoformat()}"


def files_of(folder: Path) -> list[Path]:
    """Whole files of a day, oldest first."""
    return sorted(folder.glob("events-*.parquet"))


def reach_of(files: Iterable[Path]) -> Reach:
    """How far these files reach together. Raises `SinkError` for a file of somebody else's."""
    reach: Reach = {}
    for file in files:
        try:
            metadata: Any = arrow_parquet.read_metadata(file).metadata
            told = orjson.loads(metadata[_METADATA])
            _extend(reach, {Position(*place): offset for *place, offset in told["reach"]})
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise SinkError(
                f"{file} is not a file of the ledger that Marlin exported ({exc!r}); nothing was "
                "exported to its day. Export to another folder, or move it away"
            ) from exc
    return reach


def write_day(
    folder: Path, day: date, schema: Any, batches: Iterator[Any], sources: Mapping[int, Source]
) -> tuple[Path, int, Reach] | None:
    """Write one further file of a day: its path, rows and reach; None when there are no rows.

    Written under another name, then renamed, and on disk when this returns: a file that has its
    name is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"events-{len(files_of(folder)) + 1:06d}.parquet"
    aside = target.with_suffix(".part")
    rows, reach = 0, Reach()
    try:
        with arrow_parquet.ParquetWriter(aside, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
                _extend(reach, _reach_of_rows(batch, sources))
            told = {
                "day": day,
                "rows": rows,
                "reach": [[*place, last] for place, last in reach.items()],
            }
            writer.add_key_value_metadata({_METADATA: orjson.dumps(told)})
        if rows:
            _flush(aside)
            aside.rename(target)
            _flush(folder)
    finally:
        aside.unlink(missing_ok=True)
    return (target, rows, reach) if rows else None


def _reach_of_rows(batch: Any, sources: Mapping[int, Source]) -> Reach:
    reach: Reach = {}
    pairs = batch.select(list(_POSITION))
    grouped = arrow.Table.from_batches([pairs]).group_by(list(_POSITION[:2]), use_threads=False)
    for row in grouped.aggregate([("source_offset", "max")]).to_pylist():
        source = sources[row["source_id"]]
        place = Position(source.cluster_id, source.topic, source.topic_id, row["source_partition"])
        reach[place] = row["source_offset_max"]
    return reach


def _extend(reach: Reach, further: Reach) -> None:
    for place, offset in further.items():
        reach[place] = max(offset, reach.get(place, -1))


def _flush(path: Path) -> None:
    # Rows may be removed from the database next: what they were copied to must outlast a crash.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
