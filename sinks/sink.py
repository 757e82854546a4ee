"""What a sink is: where batches go, whole or not at all."""

from __future__ import annotations

from typing import Protocol

from marlin.sinks.batch import Applied, Batch, TopicPartition
from marlin.sinks.identity import Identity

__all__ = ["Sink"]


class Sink(Protocol):
    """Storage that takes in batches exactly once. Not thread-safe: one call at a time.

    `marlin.sinks.conformance.SinkConformance` is the test suite that every sink passes.
    """

    def bind(self, identity: Identity) -> dict[TopicPartition, int]:
        """Say which cluster the next batches come from; returns where to go on reading.

        Called before the first `apply`, and again whenever a topic or the cluster was recreated.
        Partitions that are not in the result are read from their beginning. A cluster or a topic
        with a new id starts there too, whatever was read under the old one.
        """
        ...

    def apply(self, batch: Batch) -> Applied:
        """Take in a batch: rows, aggregates and positions in one transaction.

        What was taken in before is dropped and counted as duplicates. When it returns, the batch
        is durable. When it raises `SinkError`, nothing of the batch is stored, and it may be
        given again.
        """
        ...

    def close(self) -> None:
        """Give the storage free. Everything that `apply` returned for stays."""
        ...
