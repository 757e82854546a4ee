"""Watching a stream while its caller reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from metered import Metered

from marlin.normalise import Reading
from marlin.runtime.integrations.calls import MeteredCall, begin
from marlin.runtime.integrations.streams import AsyncWatchedIterator, WatchedIterator
from marlin.tokens import TokenUsage


class Collector:
    """An output token for each item; `usage` makes them final, and is hidden."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @property
    def started(self) -> bool:
        return bool(self.seen)

    @property
    def complete(self) -> bool:
        return "usage" in self.seen

    def observe(self, item: str) -> bool:
        self.seen.append(item)
        return item != "usage"

    def reading(self) -> Reading:
        quality: Any = "reported" if self.complete else "estimated"
        return Reading(TokenUsage(0, len(self.seen), quality=quality))


def items(*given: str | BaseException) -> Iterator[str]:
    for one in given:
        if isinstance(one, BaseException):
            raise one
        yield one


async def later(*given: str | BaseException) -> AsyncIterator[str]:
    for one in items(*given):
        await asyncio.sleep(0)
        yield one


def a_call() -> MeteredCall:
    return begin(provider="p", model="gpt-4o", prompt="four")


def watched(*given: str | BaseException) -> WatchedIterator:
    return WatchedIterator(items(*given), a_call(), Collector())


ERROR = ConnectionError("gone")
ENDS: list[tuple[tuple[str | BaseException, ...], list[tuple[Any, ...]]]] = [
    (("a", "b", "usage"), [(0, 0, 0, 3, 0, "reported")]),
    (("a", "b"), [(1, 0, 0, 2, 0, "estimated")]),
    (("a", ERROR), [(1, 0, 0, 1, 0, "partial")]),
    (("a", "usage", ERROR), [(0, 0, 0, 2, 0, "reported")]),
    # An error in the place of the first item is a refusal; an interrupt is not.
    ((ERROR,), []),
    ((KeyboardInterrupt(),), [(1, 0, 0, 0, 0, "partial")]),
]


@pytest.mark.parametrize(("given", "tokens"), ENDS)
def test_how_a_stream_ends_settles_its_call(
    given: tuple[str | BaseException, ...], tokens: list[tuple[Any, ...]]
) -> None:
    metered = Metered()
    with metered.run:
        visible = [one for one in given if isinstance(one, str) and one != "usage"]
        read: list[str] = []
        raised: BaseException | None = None
        try:
            for one in watched(*given):
                read.append(one)
        except (ConnectionError, KeyboardInterrupt) as exc:
            raised = exc
        assert raised is (given[-1] if isinstance(given[-1], BaseException) else None)
        assert read == visible
    assert metered.tokens == tokens


@pytest.mark.parametrize(("given", "tokens"), ENDS[:5])
async def test_how_an_async_stream_ends_settles_its_call(
    given: tuple[str | BaseException, ...], tokens: list[tuple[Any, ...]]
) -> None:
    metered = Metered()
    async with metered.run:
        watch = AsyncWatchedIterator(later(*given), a_call(), Collector())
        read: list[str] = []
        raised: BaseException | None = None
        try:
            async for one in watch:
                read.append(one)
        except ConnectionError as exc:
            raised = exc
        assert raised is (given[-1] if isinstance(given[-1], BaseException) else None)
        assert read == [one for one in given if isinstance(one, str) and one != "usage"]
    assert metered.tokens == tokens


@pytest.mark.parametrize(
    ("read", "tokens"),
    [
        (0, (1, 0, 0, 0, 0, "partial")),
        (1, (1, 0, 0, 1, 0, "partial")),
        (2, (0, 0, 0, 3, 0, "reported")),
    ],
)
def test_closing_settles_by_what_came(read: int, tokens: tuple[Any, ...]) -> None:
    metered = Metered()
    with metered.run:
        watch = watched("a", "usage", "b", "c")
        for _ in range(read):
            next(watch)
        watch.closed()
        watch.closed()
    assert metered.tokens == [tokens]


def test_a_stream_that_closes_itself_at_its_end_is_complete() -> None:
    metered = Metered()
    close: list[Callable[[], None]] = []

    def closing() -> Iterator[str]:
        yield "a"
        close[0]()

    with metered.run:
        watch = WatchedIterator(closing(), a_call(), Collector())
        close.append(watch.closed)
        assert list(watch) == ["a"]
    assert metered.tokens == [(1, 0, 0, 1, 0, "estimated")]


def test_whatever_else_is_asked_is_asked_of_the_inner_one() -> None:
    metered = Metered()
    with metered.run:
        watch = watched("a", "b")
        next(watch)
        watch.close()  # of the generator
        assert list(watch) == []
        with pytest.raises(AttributeError, match="no_such"):
            _ = watch.no_such
    assert len(metered.tokens) == 1
