"""An outer call gives way to the one that begins inside it: every call counts, once."""

from __future__ import annotations

import gc
import threading
import weakref
from contextvars import copy_context

from metered import Metered

from marlin import TokenUsage
from marlin.normalise import read
from marlin.runtime.integrations.calls import MeteredCall, Outer, begin


def _begin(model: str = "large-70b") -> MeteredCall:
    return begin(provider="", model=model, prompt="sixteen letters.")


def _finish(call: MeteredCall, output_tokens: int) -> None:
    call.finish(lambda: read(TokenUsage(1, output_tokens)))


def _outputs(metered: Metered) -> list[int]:
    return [one.output_tokens for one in metered.usage]


def test_the_inner_call_takes_the_place_of_the_outer_and_its_agent() -> None:
    metered = Metered()
    with metered.run:
        with metered.run.agent("outer"):
            outer = _begin()
            hold = Outer.enter(outer)
        inner = _begin()
        assert (outer.counts, inner.counts, inner.agent_id) == (False, True, "outer")
        _finish(inner, 2)
        _finish(outer, 9)
        hold.end()
        assert metered.run.reserved_g == 0
    assert _outputs(metered) == [2]
    assert metered.usage[0].agent_id == "outer"


def test_an_agent_that_the_code_names_inside_wins() -> None:
    metered = Metered()
    with metered.run:
        with metered.run.agent("outer"):
            hold = Outer.enter(_begin())
        with metered.run.agent("inner"):
            _finish(_begin(), 1)
        hold.end()
    assert [one.agent_id for one in metered.usage] == ["inner"]


def test_what_begins_after_the_end_is_another_call() -> None:
    metered = Metered()
    with metered.run:
        outer = _begin()
        hold = Outer.enter(outer)
        hold.end()
        hold.end()
        _finish(_begin(), 2)
        _finish(outer, 3)
    assert _outputs(metered) == [2, 3]


def test_only_one_gives_way_to_each() -> None:
    metered = Metered()
    with metered.run:
        outer = _begin()
        hold = Outer.enter(outer)
        _finish(_begin(), 2)
        _finish(_begin(), 3)
        hold.end()
    assert _outputs(metered) == [2, 3]


def test_several_give_way_one_by_one_however_many_threads_begin() -> None:
    metered = Metered()
    with metered.run:
        base = copy_context()
        outers: list[MeteredCall] = []
        for _ in range(20):
            call = base.copy().run(_begin)
            outers.append(call)
            Outer.enter(call)

        def inner() -> None:
            _finish(_begin(), 2)

        threads = [threading.Thread(target=copy_context().run, args=(inner,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not any(call.counts for call in outers)
        assert metered.run.reserved_g == 0
    assert _outputs(metered) == [2] * 20


def test_calls_that_ended_are_let_go_of() -> None:
    metered = Metered()
    with metered.run:
        first = Outer.enter(_begin())
        gone = weakref.ref(first)
        first.end()
        del first
        for _ in range(3):
            Outer.enter(_begin()).end()
        gc.collect()
        assert gone() is None
