"""What one transaction takes in: parsed records, and how far they bring each topic."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from marlin.schemas import Command, GridRecord, Lifecycle, SourcePosition
from marlin.sinks.arrow import ArrowTable

__all__ = ["Applied", "Batch", "GridRow", "Refusal", "TopicPartition"]


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that was refused, by the worker (a dead letter) or by the sink itself."""

    step: str
    """`size`, `decode`, `validate`, `key` of the worker, or `sink`."""
    reason: str
    source: SourcePosition
    """Where the refused record is."""
    refused_at: datetime
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class GridRow:
    """A record of the grid topic, where it is and when it came there."""

    record: GridRecord
    position: SourcePosition
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of any number of partitions, in the order of each partition.

    It may hold what was taken in before, anywhere: the sink drops it by the source positions.
    """

    usages: ArrowTable
    """Carbon records, columns as `marlin.sinks.carbon_table.SCHEMA`."""
    lifecycle: tuple[Lifecycle, ...] = ()
    commands: tuple[Command, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    grid: tuple[GridRow, ...] = ()
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    """Where reading goes on after this batch."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch added."""

    events: int = 0
    lifecycle: int = 0
    commands: int = 0
    refusals: int = 0
    duplicates: int = 0
    """Usages and lifecycle events that were there already, and were dropped."""
    grid: int = 0
    """Intensities of a zone and hour."""

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.events + other.events,
            self.lifecycle + other.lifecycle,
            self.commands + other.commands,
            self.refusals + other.refusals,
            self.duplicates + other.duplicates,
            self.grid + other.grid,
        )
