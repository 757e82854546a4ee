"""The common core of the integrations: asked before, told afterwards, never in the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from metered import Metered
from pydantic import BaseModel

from marlin import CarbonBudgetExceededError
from marlin.normalise import Reading, openai
from marlin.runtime.integrations import calls
from marlin.runtime.integrations.calls import (
    MeteredCall,
    begin,
    characters_of,
    log_once,
    reading,
    within,
)
from marlin.tokens import TokenUsage

PROMPT = [{"role": "user", "content": "Sixteen letters."}]
REPORTED = Reading(TokenUsage(1743, 120, 512, 0, 70), "gpt-4o-2024-08-06")


@pytest.fixture(autouse=True)
def _nothing_logged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_logged", set[Any]())


def a_call(prompt: object = PROMPT) -> MeteredCall:
    return begin(provider="openai", model="gpt-4o", prompt=prompt)


def failing() -> Reading:
    raise RuntimeError("unreadable")


def test_a_finished_call_counts_what_was_reported() -> None:
    metered = Metered()
    with metered.run, metered.run.agent("writer"):
        call = a_call()
        assert call.counts
        call.finish(lambda: REPORTED)
        assert not call.counts
    assert metered.tokens == [(1743, 512, 0, 120, 70, "reported")]
    (usage,) = metered.usage
    assert (usage.agent_id, usage.model) == ("writer", "gpt-4o-2024-08-06")


@pytest.mark.parametrize(
    ("settle", "tokens", "expected"),
    [
        # Reported counts stay, even where the input is 0.
        (MeteredCall.finish, TokenUsage(0, 5), (0, 0, 0, 5, 0, "reported")),
        (MeteredCall.finish, TokenUsage(0, 5, quality="estimated"), (4, 0, 0, 5, 0, "estimated")),
        (MeteredCall.partial, TokenUsage(0, 5), (0, 0, 0, 5, 0, "partial")),
        (MeteredCall.partial, TokenUsage(0, 5, quality="estimated"), (4, 0, 0, 5, 0, "partial")),
        (
            MeteredCall.partial,
            TokenUsage(0, 5, 30, quality="estimated"),
            (0, 30, 0, 5, 0, "partial"),
        ),
    ],
)
def test_the_prompt_stands_in_for_an_unknown_input(
    settle: Callable[[MeteredCall, Callable[[], Reading]], None],
    tokens: TokenUsage,
    expected: tuple[Any, ...],
) -> None:
    metered = Metered()
    with metered.run:
        settle(a_call(), lambda: Reading(tokens))
    assert metered.tokens == [expected]


def test_an_unreadable_answer_counts_its_prompt(caplog: pytest.LogCaptureFixture) -> None:
    metered = Metered()
    with metered.run:
        a_call().finish(failing)
        a_call().partial(failing)
    assert metered.tokens == [(4, 0, 0, 0, 0, "missing"), (4, 0, 0, 0, 0, "partial")]
    assert caplog.text.count("an answer could not be read") == 1


def test_a_call_is_settled_once() -> None:
    metered = Metered(carbon_budget_g=100.0)
    with metered.run:
        call = a_call()
        call.finish(lambda: REPORTED)
        call.finish(lambda: REPORTED)
        call.partial(lambda: REPORTED)
        call.fail()
        failed = a_call()
        failed.fail()
        failed.finish(lambda: REPORTED)
        assert metered.run.reserved_g == 0
    assert len(metered.usage) == 1


def test_impossible_counts_are_not_counted_and_give_the_reservation_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metered = Metered(carbon_budget_g=100.0)
    with metered.run:
        for _ in range(3):
            a_call().finish(lambda: Reading(TokenUsage(-1, 5)))
        assert metered.run.reserved_g == 0
    assert metered.usage == []
    assert caplog.text.count("a call could not be counted") == 1


def test_a_refusal_reaches_the_caller() -> None:
    with Metered(carbon_budget_g=1e-9).run, pytest.raises(CarbonBudgetExceededError):
        a_call()


def test_any_other_error_gives_a_call_that_does_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("Marlin broke")

    metered = Metered()
    monkeypatch.setattr("marlin.runtime.meter.MeteredRun.start_call", broken)
    with metered.run, caplog.at_level(logging.WARNING, "marlin.runtime"):
        for _ in range(3):
            call = a_call()
            assert not call.counts
            call.keep_open(lambda: None, call)
            call.finish(failing)
            call.fail()
    assert metered.usage == []
    assert caplog.text.count("a call could not be metered; the user's call goes on") == 1


async def test_inside_an_outer_call_nothing_counts_and_tasks_inherit_it() -> None:
    async def inner() -> bool:
        return a_call().counts

    metered = Metered()
    async with metered.run:
        with within():
            with within():
                assert not a_call().counts
            assert not a_call().counts
            assert not await asyncio.create_task(inner())
        call = a_call()
        assert call.counts
        call.fail()
    assert metered.usage == []


class Reader:
    """What a stream is read from."""


def test_a_dropped_stream_is_settled_at_the_next_call_and_only_then() -> None:
    metered = Metered()
    with metered.run:
        call, reader = a_call(), Reader()
        call.keep_open(lambda: call.partial(lambda: REPORTED), reader)
        del reader
        assert metered.usage == []
        a_call().fail()
        assert metered.tokens == [(1743, 512, 0, 120, 70, "partial")]


def test_a_stream_that_was_read_is_not_settled_again_when_it_is_dropped() -> None:
    metered = Metered()
    with metered.run:
        call, reader = a_call(), Reader()
        call.keep_open(lambda: call.partial(failing), reader)
        call.finish(lambda: REPORTED)
        del reader
        a_call().fail()
    assert metered.tokens == [(1743, 512, 0, 120, 70, "reported")]


def test_the_last_reader_of_a_call_is_the_one_that_matters() -> None:
    metered = Metered()
    with metered.run:
        call, raw, stream = a_call(), Reader(), Reader()
        call.keep_open(lambda: call.partial(failing), raw)
        call.keep_open(lambda: call.partial(lambda: REPORTED), stream)
        del raw
        a_call().fail()
        assert metered.usage == []
        del stream
    assert metered.tokens == [(1743, 512, 0, 120, 70, "partial")]


def test_a_run_settles_its_own_open_streams_when_it_ends() -> None:
    outer, inner = Metered(), Metered()
    reader = Reader()
    with outer.run:
        waits = a_call()
        waits.keep_open(lambda: waits.partial(lambda: REPORTED), reader)
        with inner.run:
            call = a_call()
            call.keep_open(lambda: call.partial(lambda: REPORTED), reader)
        assert (len(outer.usage), len(inner.usage)) == (0, 1)
    assert len(outer.usage) == 1


USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int


@pytest.mark.parametrize(
    ("usage", "how", "expected"),
    [
        (USAGE, {}, TokenUsage(9, 4)),
        (Usage(prompt_tokens=9, completion_tokens=4), {}, TokenUsage(9, 4)),
        (None, {"output": ["Nine here"]}, TokenUsage(0, 3, quality="estimated")),
        (None, {"output_characters": 5}, TokenUsage(0, 2, quality="estimated")),
        (None, {}, TokenUsage(0, 0, quality="missing")),
        ({**USAGE, "prompt_tokens": -1}, {}, TokenUsage(0, 0, quality="missing")),
        (7, {"output": "four"}, TokenUsage(0, 1, quality="estimated")),
    ],
)
def test_reading(usage: object, how: dict[str, Any], expected: TokenUsage) -> None:
    assert reading(openai.chat, usage, **how, model="m") == Reading(expected, "m")


class Part(BaseModel, extra="allow"):
    type: str
    text: str


def test_characters_are_of_text_alone() -> None:
    assert characters_of("four") == 4
    assert characters_of([{"role": "user", "content": [{"type": "text", "text": "four"}]}]) == 4
    assert characters_of({"image_url": {"url": "data:image/png;base64,AAAA"}}) == 0
    assert characters_of({"source": {"media_type": "image/png", "data": "AAAA"}}) == 0
    assert characters_of([b"bytes", 12, 1.5, True, None, object()]) == 0
    assert characters_of((("ab", "c"), {"deep": {"er": ["d"]}})) == 4
    assert characters_of(Part.model_validate({"type": "text", "text": "four", "more": "x"})) == 5


def test_what_contains_itself_ends() -> None:
    loop: list[Any] = ["four"]
    loop += [loop, loop, {"again": loop}]
    assert characters_of(loop) == 4
    same = {"text": "four"}
    assert characters_of([same, same]) == 8


def test_errors_are_logged_once_per_kind_and_type(caplog: pytest.LogCaptureFixture) -> None:
    for kind, error in [("a", ValueError), ("a", ValueError), ("a", KeyError), ("b", KeyError)]:
        try:
            raise error("why")
        except Exception:
            log_once(kind, f"{kind} failed")
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [
        *["a failed; the user's call goes on (logged once)"] * 2,
        "b failed; the user's call goes on (logged once)",
    ]
