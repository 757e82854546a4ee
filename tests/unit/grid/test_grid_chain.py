from __future__ import annotations

from typing import Any

import pytest
from grid_sources import START, Clock, Source

from marlin.errors import (
    ConfigurationError,
    GridAuthError,
    GridError,
    GridUnavailableError,
    GridZoneError,
)
from marlin.grid.chain import GridChain
from marlin.grid.provider import HOUR


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(clock: Clock) -> Source:
    made = Source(clock)
    made.estimates = dict.fromkeys((START + n * HOUR for n in range(6)), "measured")
    return made


@pytest.fixture
def second(clock: Clock) -> Source:
    made = Source(clock, "second")
    made.estimates = dict.fromkeys((START + n * HOUR for n in range(2, 8)), "measured")
    return made


async def ask(chain: GridChain, first: int, last: int) -> list[tuple[int, str]]:
    values = await chain.history("DE", START + first * HOUR, START + last * HOUR)
    return [((value.hour - START) // HOUR, value.source) for value in values]


async def test_the_preferred_source_comes_first(source: Source, second: Source) -> None:
    chain = GridChain([source, second])

    assert await ask(chain, 2, 4) == [(2, "source"), (3, "source")]
    assert second.asked == []
    assert await ask(chain, 5, 7) == [(5, "source"), (6, "second")]


async def test_the_next_one_stands_in(source: Source, second: Source) -> None:
    source.error = GridUnavailableError("down", provider="source")

    assert await ask(GridChain([source, second]), 1, 3) == [(2, "second")]


async def test_all_of_them_failed(source: Source, second: Source) -> None:
    source.error = GridUnavailableError("first is down", provider="source")
    second.error = GridAuthError("second refused", provider="second")

    with pytest.raises(GridUnavailableError, match="first is down"):
        await ask(GridChain([source, second]), 0, 3)


async def test_nobody_knows(source: Source, second: Source) -> None:
    source.error = GridZoneError("no such zone", provider="source")

    assert await ask(GridChain([source, second]), 10, 12) == []


async def test_a_forecast_comes_from_one_source(
    source: Source, second: Source, clock: Clock
) -> None:
    chain = GridChain([source, second])
    assert {v.source for v in await chain.forecast("DE", clock.time + 50 * HOUR)} == {"source"}
    source.error = GridZoneError("no plan", provider="source")
    assert {v.source for v in await chain.forecast("DE", clock.time + 50 * HOUR)} == {"second"}


async def test_it_closes_its_sources(source: Source, clock: Clock) -> None:
    other = Source(clock)
    await GridChain([source, other]).aclose()

    assert (source.closed, other.closed) == (True, True)


@pytest.mark.parametrize(
    ("signal", "basis"),
    [("marginal", "lifecycle"), ("marginal", "direct"), ("average", "direct")],
)
def test_what_does_not_count_is_refused(
    source: Source, second: Source, signal: Any, basis: Any
) -> None:
    second.signal, second.basis = signal, basis

    with pytest.raises(ConfigurationError, match="second: its values are"):
        GridChain([source, second])


async def test_a_source_that_breaks_its_word(source: Source, second: Source) -> None:
    chain = GridChain([source, second])
    source.signal = "marginal"

    with pytest.raises(GridError, match="got a marginal lifecycle one"):
        await ask(chain, 0, 1)
