from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from marlin.runtime import MockModelClient
from marlin.runtime.mock import LONGEST_REPLY_TOKENS, SHORTEST_REPLY_TOKENS


async def test_the_same_prompt_gives_the_same_reply_in_every_client() -> None:
    first = await MockModelClient().complete("What is a tide?", model="small-7b")
    again = await MockModelClient().complete("What is a tide?", model="small-7b")

    assert again == first


async def test_these_counts_never_change() -> None:
    """Budgets in the docs and in the lab rest on them."""
    reply = await MockModelClient().complete("What is a tide?", model="small-7b")

    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (4, 625)
    assert reply.usage.cost_usd == 4 * 1e-6 + 625 * 4e-6


async def test_the_model_changes_nothing() -> None:
    small = await MockModelClient().complete("What is a tide?", model="small-7b")
    large = await MockModelClient().complete("What is a tide?", model="large-70b")

    assert small == large


@given(st.text())
async def test_any_prompt_gets_tokens_that_fit_its_text(prompt: str) -> None:
    reply = await MockModelClient().complete(prompt, model="m")

    assert reply.usage is not None
    assert SHORTEST_REPLY_TOKENS <= reply.usage.output_tokens <= LONGEST_REPLY_TOKENS
    assert len(reply.text.split()) == reply.usage.output_tokens
    assert reply.usage.input_tokens >= 1


async def test_a_lone_surrogate_is_a_prompt_like_any_other() -> None:
    reply = await MockModelClient().complete("\ud800", model="m")

    assert reply.usage is not None


async def test_longer_prompts_take_more_input_tokens() -> None:
    short = await MockModelClient().complete("one two", model="m")
    long = await MockModelClient().complete("one two three environmentally", model="m")

    assert short.usage is not None
    assert long.usage is not None
    assert (short.usage.input_tokens, long.usage.input_tokens) == (2, 5)
