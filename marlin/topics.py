"""Marlin's topics: their names and what each is for. The one place that knows them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EVENTS_TOPIC", "GRID_PARTITIONS", "Topics"]

EVENTS_TOPIC = "marlin.events.v1"

GRID_PARTITIONS = 1
"""Partitions of the grid topic: one log, so that everybody reads it in the same order."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic and group names under a prefix."""

    prefix: str = ""

    @property
    def events(self) -> str:
        """What runtimes send, keyed by run_id."""
        return f"{self.prefix}{EVENTS_TOPIC}"

    @property
    def carbon(self) -> str:
        """One derived record per accepted event, on the partition of its source."""
        return f"{self.prefix}marlin.carbon.v1"

    @property
    def commands(self) -> str:
        """Commands to runtimes, on the partition of their run."""
        return f"{self.prefix}marlin.commands.v1"

    @property
    def deadletter(self) -> str:
        """Refused records as they were, with the reason in their headers."""
        return f"{self.prefix}marlin.deadletter.v1"

    @property
    def runs(self) -> str:
        """Changelog of the run table (compacted); internal."""
        return f"{self.prefix}marlin.runs.v1-changelog"

    @property
    def spans(self) -> str:
        """OpenTelemetry spans one by one, keyed by trace id; internal, and made only for them."""
        return f"{self.prefix}marlin.spans.v1"

    def spans_group(self, reader: str) -> str:
        """Consumer group of a reader of spans."""
        return f"{self.prefix}marlin-otel-{reader}"

    @property
    def group(self) -> str:
        """Consumer group of the workers."""
        return f"{self.prefix}marlin-worker"

    @property
    def sink_group(self) -> str:
        """Consumer group of the sinks of a lake; a DuckDB file's sink needs none."""
        return f"{self.prefix}marlin-sink"

    @property
    def grid(self) -> str:
        """Carbon intensity by grid zone and hour (compacted), on one partition."""
        return f"{self.prefix}marlin.grid.v1"

    def by_run(self) -> tuple[str, ...]:
        """The topics of runs: a run's records have one partition number on all of them."""
        return (self.events, self.carbon, self.commands, self.deadletter, self.runs)

    def all(self) -> tuple[str, ...]:
        """Every topic, in the order they are created."""
        return (*self.by_run(), self.grid)
