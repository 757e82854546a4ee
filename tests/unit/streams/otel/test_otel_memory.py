"""Which spans count, whatever the order they come in."""

from __future__ import annotations

from itertools import permutations, zip_longest

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from marlin.streams.otel.link import Link
from marlin.streams.otel.memory import Memory

USAGE = msgspec.Raw(b"{}")


def link(span: int, parent: int | None = None, *, tokens: bool = True, trace: int = 1) -> Link:
    """A call, with tokens or without."""
    return Link(
        f"{trace:032x}",
        f"{span:016x}",
        "" if parent is None else f"{parent:016x}",
        run="run",
        is_reported=tokens,
        usage=USAGE,
    )


def other(span: int, parent: int | None = None) -> Link:
    """A span that is no call: an agent, a tool, a request."""
    return Link(f"{1:032x}", f"{span:016x}", "" if parent is None else f"{parent:016x}")


def counted(*links: Link, capacity: int = 1000, hold_back_ms: int = 0) -> list[int]:
    """The span numbers that count, in their order, of one record a second and a tick at the end."""
    memory = Memory(capacity, hold_back_ms=hold_back_ms)
    found = [
        counted.link
        for offset, link in enumerate([*links, Link.tick()])
        for counted in memory.take(offset, offset * 1000 + (link.is_tick * 10**6), link)
    ]
    assert memory.waits_from is None
    return [int(link.span, 16) for link in found]


def test_each_span_counts_once() -> None:
    assert counted(link(1), link(2), link(1), link(2), link(1)) == [1, 2]
    assert counted(link(1), link(1, trace=2)) == [1, 1]


def test_only_calls_count() -> None:
    assert counted(other(1), other(2, 1)) == []


def test_a_call_around_another_does_not_count() -> None:
    #  1 ─ 2 ─ 3     inner spans end, and come, first
    assert counted(link(3, 2), link(2, 1), link(1)) == [3]
    assert counted(link(3, 1), link(4, 1), link(1)) == [3, 4]


def test_it_does_not_count_though_other_spans_are_in_between() -> None:
    #  1 ─ (2) ─ (3) ─ 4
    assert counted(link(4, 3), other(3, 2), other(2, 1), link(1)) == [4]
    # The links in between come before the call they enclose.
    assert counted(other(2, 1), other(3, 2), link(4, 3), link(1)) == [4]


def test_a_call_inside_one_that_was_counted_does_not_count() -> None:
    assert counted(link(1), link(2, 1), link(3, 1)) == [1]
    assert counted(link(1), other(2, 1), link(3, 2)) == [1]
    assert counted(link(1), link(2, 1), link(3, 2)) == [1]


def test_once_a_child_was_counted_all_its_siblings_are() -> None:
    assert counted(link(2, 1), link(1), link(3, 1)) == [2, 3]


def test_a_call_without_tokens_stands_for_nobody() -> None:
    # Flagged as missing itself; the call around it has the tokens.
    assert counted(link(2, 1, tokens=False), link(1)) == [2, 1]
    # Nor does it hold back what is inside it.
    assert counted(link(1, tokens=False), link(2, 1)) == [1, 2]
    # A frame without tokens around a call that has them is not missing anything.
    assert counted(link(2, 1), link(1, tokens=False)) == [2]
    assert counted(link(1), link(2, 1, tokens=False)) == [1]


def test_spans_that_enclose_each_other_do_not_hang_it() -> None:
    assert counted(link(1, 1)) == [1]
    assert counted(link(1, 2), link(2, 1), link(3, 2)) == [1]


NESTED = [link(3, 2), link(2, 1), link(1)]
"""1 ─ 2 ─ 3, all with the same tokens."""


def test_any_order_of_a_call_and_its_frames_counts_the_inner_one_if_they_are_waited_for() -> None:
    for order in permutations(NESTED):
        assert counted(*order, hold_back_ms=3000) == [3]


def test_without_waiting_one_of_them_counts_unless_a_link_between_comes_last() -> None:
    for order in permutations(NESTED):
        numbers = [int(one.span, 16) for one in order]
        # Nothing shows yet that 1 is around 3, and both have counted when 2 comes.
        expected = 2 if numbers in ([3, 1, 2], [1, 3, 2]) else 1
        assert len(counted(*order)) == expected, numbers


def test_a_span_waits_for_the_log_to_say_that_time_has_passed() -> None:
    memory = Memory(1000, hold_back_ms=5000)

    assert memory.take(7, 60_000, link(1)) == []
    assert memory.waits_from == 7
    assert memory.take(8, 64_999, other(9)) == []
    # A writer whose clock is behind does not turn time back.
    assert memory.take(9, 10, Link.tick()) == []
    assert [counted.offset for counted in memory.take(10, 65_000, Link.tick())] == [7]
    assert memory.waits_from is None


def test_nothing_waits_until_it_is_forgotten() -> None:
    memory = Memory(20, hold_back_ms=10**9)
    found = [memory.take(offset, 0, link(offset + 1)) for offset in range(30)]

    assert [counted.offset for counted in found[10]] == [0]
    assert memory.waits_from == 20


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    memory = Memory(10, hold_back_ms=0)
    for offset in range(1000):
        assert memory.take(offset, 0, link(offset + 1, offset + 5000))
        assert len(memory) <= 20

    assert not memory.take(1000, 0, link(992, 5991))
    assert memory.take(1001, 0, link(991, 5990))


def test_a_frame_is_remembered_as_long_as_its_calls_come() -> None:
    calls = [link(number, 1) for number in range(2, 200)]

    assert counted(*calls, link(1), capacity=10) == list(range(2, 200))


spans = st.builds(
    link, st.integers(1, 12), st.one_of(st.none(), st.integers(1, 12)), tokens=st.booleans()
)


@settings(deadline=None)
@given(st.lists(spans, max_size=60), st.sampled_from([0, 3000, 10**6]))
def test_a_span_never_counts_twice(log: list[Link], hold_back_ms: int) -> None:
    found = counted(*log, hold_back_ms=hold_back_ms)

    assert len(found) == len(set(found))


CAPACITY = 24


@st.composite
def logs(draw: st.DrawFn) -> list[Link]:
    """Traces of up to 12 spans, repeats among them, two at a time."""
    log: list[Link] = []
    for number in range(0, draw(st.integers(2, 30)), 2):
        pair = [
            [Link(f"{trace + 1:032x}", *msgspec.structs.astuple(one)[1:]) for one in draw(traces)]
            for trace in (number, number + 1)
        ]
        log += [one for both in zip_longest(*pair) for one in both if one is not None]
    return log


traces = st.lists(spans, max_size=12)


@settings(deadline=None, max_examples=25)
@given(logs(), st.sampled_from([0, 4000]))
def test_reading_back_gives_the_same_answers(log: list[Link], hold_back_ms: int) -> None:
    def read(start: int) -> tuple[list[int], list[int]]:
        """The offsets that count; and where a reader may begin anew, after each record."""
        memory = Memory(CAPACITY, hold_back_ms=hold_back_ms)
        answers: list[int] = []
        committed: list[int] = []
        for offset in range(start, len(log)):
            answers += (found.offset for found in memory.take(offset, offset * 1000, log[offset]))
            waits_from = memory.waits_from
            committed.append(offset + 1 if waits_from is None else waits_from)
        return answers, committed

    answers, committed = read(0)
    for since in committed[::5]:
        again, _ = read(max(0, since - 2 * CAPACITY))
        assert [offset for offset in again if offset >= since] == [
            offset for offset in answers if offset >= since
        ]
