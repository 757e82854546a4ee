"""Duplicates and gaps of one producer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from marlin.streams.sequence import MAX_GAPS, SequenceWindow, window_of


def accepted(numbers: list[int]) -> list[int]:
    window = SequenceWindow()
    return [number for number in numbers if window.accept(number)]


def test_numbers_in_order_are_all_new() -> None:
    window = SequenceWindow()

    assert [window.accept(n) for n in range(5)] == [True] * 5
    assert window.next == 5
    assert window.gaps == ()


def test_a_repeated_number_is_a_duplicate() -> None:
    assert accepted([0, 1, 1, 0, 2, 2]) == [0, 1, 2]


def test_a_skipped_number_is_a_gap_until_it_arrives_once() -> None:
    window = SequenceWindow()
    for number in (0, 4):
        window.accept(number)

    assert window.gaps == ((1, 4),)
    assert window.accept(2)
    assert window.gaps == ((1, 2), (3, 4))
    assert not window.accept(2)
    assert window.accept(1)
    assert window.accept(3)
    assert window.gaps == ()


def test_the_first_number_seen_may_be_late() -> None:
    window = SequenceWindow()

    assert window.accept(3)
    assert window.gaps == ((0, 3),)


def test_gaps_are_bounded_and_the_oldest_is_given_up() -> None:
    window = SequenceWindow()
    for number in range(0, 4 * MAX_GAPS, 2):
        window.accept(number)

    assert len(window.gaps) == MAX_GAPS
    assert not window.accept(1), "a number given up is rather lost than counted twice"
    assert window.accept(4 * MAX_GAPS - 3)


@given(st.lists(st.integers(0, 60), max_size=200))
def test_every_number_is_accepted_exactly_once_whatever_the_order(numbers: list[int]) -> None:
    assert sorted(accepted(numbers)) == sorted(set(numbers))


@given(st.lists(st.integers(0, 500), max_size=100), st.integers(0, 100))
def test_dumping_in_the_middle_changes_nothing(numbers: list[int], at: int) -> None:
    window = SequenceWindow()
    got = [window.accept(n) for n in numbers[:at]]
    window = SequenceWindow.load(window.dump())
    got += [window.accept(n) for n in numbers[at:]]

    whole = SequenceWindow()
    assert got == [whole.accept(n) for n in numbers]
    assert window.dump() == whole.dump()


def test_positions_in_a_log_have_no_gaps() -> None:
    window = window_of("otlp:3:abc")()

    assert [window.accept(seq) for seq in (7, 900, 7, 8, 899, 900, 901)] == [
        *(True, True, False, False, False, False, True)
    ]
    assert window_of("otlp:3:abc").load(window.dump()).gaps == ()
    assert window_of("otlp:3:abc").load(window.dump()).accept(901) is False
    assert window_of("a-runtime") is SequenceWindow
