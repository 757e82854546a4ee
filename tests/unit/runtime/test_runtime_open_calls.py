"""Streamed calls that somebody still reads, or has stopped reading."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.runtime.open_calls import OpenCalls


@dataclass
class Stream:
    run: object = None
    settled: int = 0

    def abandon(self) -> None:
        self.settled += 1


def test_what_was_dropped_waits_until_it_may_be_settled() -> None:
    calls, stream = OpenCalls(), Stream()
    number = calls.add(stream)
    calls.drop(number)
    assert (stream.settled, len(calls)) == (0, 1)
    calls.settle_dropped()
    calls.settle_dropped()
    assert (stream.settled, len(calls)) == (1, 0)


def test_what_was_read_to_its_end_is_let_go() -> None:
    calls, stream, later = OpenCalls(), Stream(), Stream()
    number = calls.add(stream)
    calls.discard(number)
    calls.discard(number)
    assert calls.add(later) != number
    calls.drop(number)
    calls.settle_dropped()
    assert (stream.settled, later.settled, len(calls)) == (0, 0, 1)


def test_a_run_settles_what_is_its_own_and_what_was_dropped() -> None:
    calls, ending, other = OpenCalls(), object(), object()
    own, dropped, theirs = Stream(ending), Stream(other), Stream(other)
    calls.add(own)
    calls.drop(calls.add(dropped))
    calls.add(theirs)
    calls.settle_of(ending)
    assert [own.settled, dropped.settled, theirs.settled] == [1, 1, 0]
    assert len(calls) == 1
