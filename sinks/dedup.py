"""Dropping what was taken in before, by source position.

Within one source partition derived records come in increasing source offset, except for replays
after a restart of the worker. A record whose source offset is below the partition's next offset
was therefore taken in before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from marlin.schemas import Lifecycle, SourcePosition
from marlin.sinks.arrow import ArrowTable, arrow, arrow_compute
from marlin.sinks.batch import Refusal, TopicPartition

__all__ = ["NextOffsets", "advances", "fresh_lifecycle", "fresh_refusals", "fresh_usages"]

NextOffsets: TypeAlias = dict[TopicPartition, int]
"""By source partition, one above the highest offset taken in."""


def fresh_usages(
    usages: ArrowTable, next_offsets: NextOffsets
) -> tuple[ArrowTable, ArrowTable, NextOffsets]:
    """Split into the new rows and the repeated ones; and how far the new ones reach."""
    topics, partitions = usages["source_topic"], usages["source_partition"]
    pairs = usages.select(["source_topic", "source_partition"]).group_by(
        ["source_topic", "source_partition"], use_threads=False
    )
    new = arrow.nulls(0, arrow.uint64())
    reached: NextOffsets = {}
    for pair in pairs.aggregate([]).to_pylist():
        source = TopicPartition(pair["source_topic"], pair["source_partition"])
        rows = arrow_compute.indices_nonzero(
            arrow_compute.and_(
                arrow_compute.equal(topics, source.topic),
                arrow_compute.equal(partitions, source.partition),
            )
        )
        offsets = usages["source_offset"].take(rows).combine_chunks()
        last = next_offsets.get(source, 0) - 1
        highest_before = arrow.concat_arrays(
            [
                arrow.array([last], arrow.int64()),
                arrow_compute.cumulative_max(offsets, start=last).slice(0, len(offsets) - 1),
            ]
        )
        kept = rows.filter(arrow_compute.greater(offsets, highest_before))
        new = arrow.concat_arrays([new, kept])
        if len(kept):
            reached[source] = arrow_compute.max(offsets).as_py() + 1
    if len(new) == usages.num_rows:
        return usages, usages.slice(0, 0), reached
    everything = arrow.array(range(usages.num_rows), arrow.uint64())
    is_new = arrow_compute.is_in(everything, value_set=new)
    return usages.filter(is_new), usages.filter(arrow_compute.invert(is_new)), reached


def fresh_lifecycle(
    lifecycle: Sequence[Lifecycle], next_offsets: NextOffsets
) -> tuple[list[Lifecycle], NextOffsets]:
    """The new ones in their order, and how far they reach.

    Lifecycle and carbon records of a partition share its source positions, but each source
    offset belongs to one of them, so each kind can be told apart from its own repeats alone.
    """
    reached: NextOffsets = {}
    fresh = [
        record
        for record in lifecycle
        if advances(SourcePosition.parse(record.source), next_offsets, reached)
    ]
    return fresh, reached


def fresh_refusals(
    refusals: Sequence[Refusal], next_offsets: NextOffsets, read: NextOffsets
) -> tuple[list[Refusal], NextOffsets]:
    """The new ones in their order, and how far the worker's dead letters reach.

    What the sink itself refused is on a topic that it reads: there `read` tells what is new.
    """
    reached: NextOffsets = {}
    refused_here: NextOffsets = {}
    fresh = [
        refusal
        for refusal in refusals
        if (
            advances(refusal.source, read, refused_here)
            if refusal.step == "sink"
            else advances(refusal.source, next_offsets, reached)
        )
    ]
    return fresh, reached


def advances(source: SourcePosition, before: NextOffsets, reached: NextOffsets) -> bool:
    """Whether `source` is at or above both next offsets of its partition; moves `reached` on."""
    where = TopicPartition(source.topic, source.partition)
    if source.offset < max(before.get(where, 0), reached.get(where, 0)):
        return False
    reached[where] = source.offset + 1
    return True
