"""The ordering guard: holes are read again, only a gap in the log itself is passed."""

from __future__ import annotations

from marlin.streams.guard import Guard, Verdict


def test_a_batch_that_continues_is_handled() -> None:
    assert Guard().check(expected=0, first=0, epoch=0) is Verdict.HANDLE
    assert Guard().check(expected=10, first=10, epoch=3) is Verdict.HANDLE


def test_a_replay_is_handled() -> None:
    assert Guard().check(expected=10, first=4, epoch=1) is Verdict.HANDLE


def test_a_hole_is_sought() -> None:
    assert Guard().check(expected=10, first=11, epoch=1) is Verdict.SEEK


def test_what_was_fetched_before_the_seek_is_dropped() -> None:
    guard = Guard()
    guard.sought(10, epoch=5)

    assert guard.check(expected=10, first=11, epoch=4) is Verdict.DROP
    assert guard.check(expected=10, first=10, epoch=4) is Verdict.DROP
    assert guard.check(expected=10, first=10, epoch=5) is Verdict.HANDLE


def test_a_gap_in_the_log_is_passed_only_right_after_the_own_seek() -> None:
    guard = Guard()
    guard.sought(10, epoch=5)

    assert guard.check(expected=10, first=14, epoch=5) is Verdict.HANDLE


def test_a_gap_after_another_seek_is_sought_again() -> None:
    guard = Guard()
    guard.sought(10, epoch=5)

    # Epoch 6: something else moved the consumer after our seek; nothing is proved yet.
    assert guard.check(expected=10, first=14, epoch=6) is Verdict.SEEK


def test_a_later_hole_is_not_excused_by_an_earlier_seek() -> None:
    guard = Guard()
    guard.sought(10, epoch=5)

    assert guard.check(expected=20, first=25, epoch=5) is Verdict.SEEK
