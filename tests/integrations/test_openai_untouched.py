"""OpenAI's package: instrumenting is reversible, and Marlin's failures stay its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any

import httpx2
import openai
import pytest
from integrations.fakes import openai as fake
from integrations.fakes.http import Answer, Server
from integrations.fakes.openai import (
    ASKED,
    REPORTED,
    async_client,
    client,
)
from metered import Metered

import marlin
from marlin.runtime.integrations import calls


@pytest.fixture(autouse=True)
def _instrumented(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setattr(calls, "_logged", set[Any]())
    marlin.instrument("openai")
    yield
    marlin.uninstrument("openai")


def test_uninstrumenting_puts_the_originals_back() -> None:
    marlin.uninstrument("openai")
    before = {c: vars(c)["request"] for c in _definers()}
    marlin.instrument("openai")
    assert all(vars(c)["request"] is not before[c] for c in before)
    marlin.instrument("openai")
    marlin.uninstrument()
    assert {c: vars(c)["request"] for c in before} == before
    metered = Metered()
    with metered.run:
        stream = client(fake.server()).chat.completions.create(**ASKED, stream=True)
        assert len(list(stream)) == 5
    assert metered.usage == []


def _definers() -> list[type]:
    return [
        next(base for base in one.__mro__ if "request" in vars(base))
        for one in (openai.OpenAI, openai.AsyncOpenAI)
    ]


def test_instrumenting_twice_counts_once_and_signatures_stay() -> None:
    marlin.instrument("openai", "openai")
    metered = Metered()
    with metered.run:
        client(fake.server()).chat.completions.create(**ASKED)
    assert metered.tokens == [REPORTED]
    assert list(inspect.signature(openai.OpenAI.request).parameters)[:3] == [
        *("self", "cast_to", "options")
    ]
    assert inspect.iscoroutinefunction(openai.AsyncOpenAI.request)


def test_a_client_made_before_is_metered_and_let_go_again() -> None:
    marlin.uninstrument("openai")
    made_before = client(fake.server())
    made_before.chat.completions.create(**ASKED)
    metered = Metered()
    with metered.run:
        marlin.instrument("openai")
        made_before.chat.completions.create(**ASKED)
        marlin.uninstrument("openai")
        made_before.chat.completions.create(**ASKED)
    assert metered.tokens == [REPORTED]


def test_a_stream_begun_before_is_still_counted() -> None:
    metered = Metered()
    with metered.run:
        stream = client(fake.server()).chat.completions.create(**ASKED, stream=True)
        marlin.uninstrument("openai")
        assert len(list(stream)) == 5
    assert metered.tokens == [REPORTED]


def test_clients_of_either_http_package_are_metered() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        other = openai.OpenAI(api_key="k", http_client=server.client(httpx2), max_retries=0)
        with other.chat.completions.create(**ASKED, stream=True) as stream:
            next(iter(stream))
        other.chat.completions.create(**ASKED)
    assert metered.tokens == [(4, 0, 0, 0, 0, "partial"), REPORTED]


def test_somebody_elses_replacement_above_ours_stays_and_counts_once_again() -> None:
    owner = _definers()[0]
    ours = vars(owner)["request"]

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(self, *args, **kwargs)

    owner.request = theirs  # type: ignore[attr-defined]
    try:
        metered = Metered()
        with metered.run:
            marlin.uninstrument("openai")
            assert vars(owner)["request"] is theirs
            client(fake.server()).chat.completions.create(**ASKED)
            assert metered.usage == []
            marlin.instrument("openai")
            client(fake.server()).chat.completions.create(**ASKED)
        assert metered.tokens == [REPORTED]
    finally:
        owner.request = ours  # type: ignore[attr-defined]


def test_an_outer_call_that_counts_lets_this_one_stand_aside() -> None:
    metered = Metered()
    with metered.run, calls.within():
        client(fake.server()).chat.completions.create(**ASKED)
        assert len(list(client(fake.server()).chat.completions.create(**ASKED, stream=True))) == 5
    assert metered.usage == []


def _break(*names: str) -> Callable[[pytest.MonkeyPatch], None]:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Marlin broke")

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in names:
            monkeypatch.setattr(name, broken)

    return patch


INTEGRATIONS = "marlin.runtime.integrations"
BREAKAGES = {
    "begin": _break(f"{INTEGRATIONS}.stainless.begin"),
    "start_call": _break("marlin.runtime.meter.MeteredRun.start_call"),
    "metering_run": _break("marlin.runtime.meter.metering_run"),
    "hosts": _break(f"{INTEGRATIONS}.openai.served_by"),
    "usage": _break("marlin.normalise.openai.chat"),
    "observe": _break(f"{INTEGRATIONS}.openai._ChatCollector.observe"),
    "read": _break(
        f"{INTEGRATIONS}.openai._ChatCollector.reading", f"{INTEGRATIONS}.openai._Chat.read"
    ),
    "watch": _break(f"{INTEGRATIONS}.stainless._tell_of_closing"),
    "collector": _break(f"{INTEGRATIONS}.openai._Chat.collector"),
    "settle": _break("marlin.runtime.call.Call.finish", "marlin.runtime.call.Call.release"),
    "open calls": _break("marlin.runtime.open_calls.OpenCalls.add"),
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES.keys())
async def test_marlin_failing_inside_never_breaks_the_call(
    breakage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage(monkeypatch)
    server = fake.server()
    with Metered(carbon_budget_g=1000.0).run:
        whole = client(server).chat.completions.create(**ASKED)
        assert whole.choices[0].message.content == fake.TEXT
        parts = list(client(server).chat.completions.create(**ASKED, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in parts if c.choices) == fake.TEXT
        stream = await async_client(server).chat.completions.create(**ASKED, stream=True)
        parts = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in parts if c.choices) == fake.TEXT
        with pytest.raises(openai.NotFoundError):
            client(Server(lambda _: Answer(404, json={}))).chat.completions.create(**ASKED)
