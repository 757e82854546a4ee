"""Anthropic's API: messages, in the shapes of its reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anthropic
import httpx2
from integrations.fakes.http import Answer, Asked, Server, events

__all__ = [
    "ASKED",
    "HOST",
    "MODEL",
    "PROMPT_TOKENS",
    "REPORTED",
    "START_USAGE",
    "TEXT",
    "TEXT_TOKENS",
    "USAGE",
    "async_client",
    "client",
    "message",
    "message_events",
    "server",
]

HOST = "api.anthropic.com"
MODEL = "claude-opus-4-5-20251101"
TEXT = "Carbon is counted here."
TEXT_TOKENS = 6
"""Of its 23 characters."""
ASKED: Any = {
    "model": "claude-opus-4-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Sixteen letters."}],
}
PROMPT_TOKENS = 4

REPORTED = (10, 512, 1733, 120, 70, "reported")
"""The token classes of the usage below."""

_CACHE: Mapping[str, Any] = {
    "cache_creation_input_tokens": 1733,
    "cache_read_input_tokens": 512,
    "cache_creation": {"ephemeral_5m_input_tokens": 1733, "ephemeral_1h_input_tokens": 0},
}
USAGE: Mapping[str, Any] = {
    "input_tokens": 10,
    **_CACHE,
    "output_tokens": 120,
    "output_tokens_details": {"thinking_tokens": 70},
    "service_tier": "standard",
}
START_USAGE: Mapping[str, Any] = {"input_tokens": 10, **_CACHE, "output_tokens": 1}
"""What `message_start` carries; its `output_tokens` is a placeholder."""


def message(text: str = TEXT, usage: Any = USAGE) -> dict[str, Any]:
    """A message."""
    return _message([{"type": "text", "text": text}], "end_turn", usage)


def message_events(
    start: Any = START_USAGE,
    delta: Any = None,
) -> list[dict[str, Any]]:
    """The events of a streamed one, with the usage of `message_start` and `message_delta`."""
    if delta is None:
        delta = {"output_tokens": 120, "output_tokens_details": {"thinking_tokens": 70}}
    block = {"type": "text", "text": ""}
    pieces = [TEXT[:10], TEXT[10:16], TEXT[16:]]
    return [
        {"type": "message_start", "message": _message([], None, start)},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": piece},
            }
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": delta,
        },
        {"type": "message_stop"},
    ]


def server() -> Server:
    """Answers as the API does."""
    return Server(_answer)


def client(answering: Server, **how: Any) -> Any:
    """The package's client, in front of a fake; untyped, as tests call it in every way."""
    http = answering.client(httpx2)
    return anthropic.Anthropic(api_key="k", http_client=http, max_retries=0, **how)


def async_client(answering: Server, **how: Any) -> Any:
    """`client` for asyncio."""
    http = answering.async_client(httpx2)
    return anthropic.AsyncAnthropic(api_key="k", http_client=http, max_retries=0, **how)


def _answer(asked: Asked) -> Answer:
    if asked.body.get("stream"):
        return Answer(pieces=events(*message_events(), named=True))
    return Answer(json=message())


def _message(content: list[Any], stop_reason: str | None, usage: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }
