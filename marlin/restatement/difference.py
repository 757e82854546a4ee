"""What a restatement changes, for people: by model and region, with the ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marlin.restatement.core import Restatement
from marlin.sinks.measures import FOOTPRINT

__all__ = ["QUANTITIES", "Change", "Line", "changes_of", "total_of"]

QUANTITIES = tuple(name for name in FOOTPRINT if not name.endswith(("_low", "_high")))
"""Names of the central values, the unit in the name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One quantity before and after: central value, low end, high end; in the quantity's unit."""

    old: tuple[float, float, float]
    new: tuple[float, float, float]

    @property
    def difference(self) -> float:
        """Of the central values."""
        return self.new[0] - self.old[0]

    @property
    def share(self) -> float | None:
        """The difference by the old value [1]; None where that is 0."""
        return self.difference / self.old[0] if self.old[0] else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        ends = ("central", "low", "high")
        return {
            "old": dict(zip(ends, self.old, strict=True)),
            "new": dict(zip(ends, self.new, strict=True)),
            "difference": self.difference,
            "difference_percent": None if self.share is None else self.share * 100,
        }


@dataclass(frozen=True, slots=True)
class Line:
    """The changed calls of a model and region."""

    model: str
    region: str
    calls: int
    changes: dict[str, Change]
    """By name of `QUANTITIES`."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "region": self.region,
            "calls": self.calls,
            **{name: change.to_dict() for name, change in self.changes.items()},
        }


def changes_of(restatement: Restatement) -> list[Line]:
    """One line per model and region, the largest change of operational carbon first."""
    sums = [(f"{when}_{name}", "sum") for when in ("old", "new") for name in FOOTPRINT]
    grouped = restatement.adjustments.group_by(["model", "region"], use_threads=False)
    rows = grouped.aggregate([("calls", "sum"), *sums]).to_pylist()
    lines = [Line(row["model"], row["region"], row["calls_sum"], _changes(row)) for row in rows]
    return sorted(lines, key=lambda line: -abs(line.changes["carbon_g"].difference))


def total_of(lines: list[Line]) -> dict[str, Change]:
    """All lines together, by quantity."""

    def added(name: str, when: str) -> tuple[float, float, float]:
        ends = [getattr(line.changes[name], when) for line in lines]
        low_to_high = [sum(end[place] for end in ends) for place in range(3)]
        return low_to_high[0], low_to_high[1], low_to_high[2]

    return {name: Change(added(name, "old"), added(name, "new")) for name in QUANTITIES}


def _changes(row: dict[str, Any]) -> dict[str, Change]:
    def figures(when: str, name: str) -> tuple[float, float, float]:
        of = f"{when}_{name}"
        return row[f"{of}_sum"], row[f"{of}_low_sum"], row[f"{of}_high_sum"]

    return {name: Change(figures("old", name), figures("new", name)) for name in QUANTITIES}
