"""Dropping what was taken in before, by source position."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from marlin.sinks.batch import TopicPartition
from marlin.sinks.conformance import TOPICS, batch_of, carbon, dead_letter, started
from marlin.sinks.dedup import fresh_lifecycle, fresh_refusals, fresh_usages

EVENTS_0, EVENTS_1 = TopicPartition(TOPICS.events, 0), TopicPartition(TOPICS.events, 1)


def test_each_partition_has_its_own_position() -> None:
    usages = batch_of(
        *(carbon(n) for n in (3, 4, 5, 4, 5, 6)), *(carbon(n, partition=1) for n in (0, 1))
    ).usages
    new, repeated, reached = fresh_usages(usages, {EVENTS_0: 4, EVENTS_1: 1})
    assert new["event_id"].to_pylist() == ["event-0-4", "event-0-5", "event-0-6", "event-1-1"]
    assert repeated["event_id"].to_pylist() == ["event-0-3", "event-0-4", "event-0-5", "event-1-0"]
    assert reached == {EVENTS_0: 7, EVENTS_1: 2}


def test_nothing_new_reaches_nowhere() -> None:
    new, repeated, reached = fresh_usages(batch_of(carbon(3)).usages, {EVENTS_0: 4})
    assert (new.num_rows, repeated.num_rows, reached) == (0, 1, {})
    new, repeated, reached = fresh_usages(batch_of().usages, {})
    assert (new.num_rows, repeated.num_rows, reached) == (0, 0, {})


def test_sources_are_told_apart_by_topic() -> None:
    spans: dict[str, Any] = {"source": "otlp_spans-0-2", "event_id": "span"}
    usages = batch_of(carbon(2), carbon(2, at=3, **spans), carbon(2, at=4, **spans)).usages
    new, _, reached = fresh_usages(usages, {EVENTS_0: 3})
    assert new["event_id"].to_pylist() == ["span"]
    assert reached == {TopicPartition("otlp_spans", 0): 3}


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(0, 8))
def test_kept_are_exactly_the_records_above_all_before(offsets: list[int], position: int) -> None:
    """The same for usages, lifecycle events and dead letters."""
    kept: list[int] = []
    for offset in offsets:
        if offset >= max([position, *(one + 1 for one in kept)]):
            kept.append(offset)
    before = {EVENTS_0: position}
    reached = {EVENTS_0: kept[-1] + 1} if kept else {}

    new, repeated, usages_reached = fresh_usages(batch_of(*map(carbon, offsets)).usages, before)
    assert new["source_offset"].to_pylist() == kept
    assert new.num_rows + repeated.num_rows == len(offsets)
    assert usages_reached == reached

    lifecycle = batch_of(*map(started, offsets)).lifecycle
    fresh, lifecycle_reached = fresh_lifecycle(lifecycle, before)
    assert [int(one.source.rsplit("-", 1)[1]) for one in fresh] == kept
    assert lifecycle_reached == reached

    refusals = batch_of(*(dead_letter(offset, at=0) for offset in offsets)).refusals
    letters, refusals_reached = fresh_refusals(refusals, before, {})
    assert [one.source.offset for one in letters] == kept
    assert refusals_reached == reached
