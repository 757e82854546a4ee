"""Grid intensities as rows: what of a batch is new, and how it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from marlin.sinks.arrow import ArrowTable, arrow
from marlin.sinks.batch import GridRow
from marlin.sinks.dedup import NextOffsets, advances

__all__ = ["INSERT_GRID", "fresh_grid", "grid_table"]

_TEXT, _TIME = arrow.string(), arrow.timestamp("us", tz="UTC")

INSERT_GRID: Final = """
INSERT INTO grid_intensity BY NAME
SELECT * FROM batch_grid AS b
WHERE NOT EXISTS (
    SELECT 1 FROM grid_intensity AS g
    WHERE g.zone = b.zone AND g.hour = b.hour AND g.revision = b.revision)
"""
"""The first value of a zone, hour and revision stays: also when its topic was recreated."""


def fresh_grid(rows: Sequence[GridRow], read: NextOffsets) -> list[GridRow]:
    """Those not read before, the first of each zone, hour and revision, in their order."""
    reached: NextOffsets = {}
    first: dict[bytes, GridRow] = {}
    for row in rows:
        if advances(row.position, read, reached):
            first.setdefault(row.record.key, row)
    return list(first.values())


def grid_table(rows: Sequence[GridRow]) -> ArrowTable:
    """The rows with the columns of the table `grid_intensity`."""
    records = [row.record for row in rows]
    columns: dict[str, Any] = {
        "zone": arrow.array([one.zone for one in records], _TEXT),
        "hour": arrow.array([one.hour for one in records], _TIME),
        "revision": arrow.array([one.revision for one in records], arrow.int32()),
        "intensity_g_per_kwh": arrow.array(
            [one.intensity_g_per_kwh for one in records], arrow.float64()
        ),
        "basis": arrow.array([one.basis for one in records], _TEXT),
        "estimate": arrow.array([one.estimate for one in records], _TEXT),
        "source": arrow.array([one.source for one in records], _TEXT),
        "fetched_at": arrow.array([one.fetched_at for one in records], _TIME),
        "published_at": arrow.array([row.published_at for row in rows], _TIME),
    }
    return arrow.table(columns)
