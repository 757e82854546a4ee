"""OpenAI's API: chat completions and responses, in the shapes of its reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openai
from integrations.fakes.http import Answer, Asked, Server, events

__all__ = [
    "ASKED",
    "CHAT_USAGE",
    "HOST",
    "MODEL",
    "PROMPT_TOKENS",
    "REPORTED",
    "RESPONSES_USAGE",
    "TEXT",
    "TEXT_TOKENS",
    "async_client",
    "chat",
    "chat_chunks",
    "client",
    "response",
    "response_events",
    "server",
]

HOST = "api.openai.com"
MODEL = "gpt-4o-2024-08-06"
TEXT = "Carbon is counted here."
TEXT_TOKENS = 6
"""Of its 23 characters."""
ASKED: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Sixteen letters."}]}
PROMPT_TOKENS = 4

REPORTED = (1743, 512, 0, 120, 70, "reported")
"""The token classes of both usages below."""

CHAT_USAGE: Mapping[str, Any] = {
    "prompt_tokens": 2255,
    "completion_tokens": 120,
    "total_tokens": 2375,
    "prompt_tokens_details": {"cached_tokens": 512, "cache_write_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 70,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
RESPONSES_USAGE: Mapping[str, Any] = {
    "input_tokens": 2255,
    "input_tokens_details": {"cached_tokens": 512, "cache_write_tokens": 0},
    "output_tokens": 120,
    "output_tokens_details": {"reasoning_tokens": 70},
    "total_tokens": 2375,
}


def chat(text: str = TEXT, usage: Any = CHAT_USAGE) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage,
    }


def chat_chunks(usage: Any = None) -> list[dict[str, Any]]:
    """The chunks of a streamed one: five of content, and one of `usage` where there is any."""
    deltas = [{"role": "assistant", "content": ""}, *({"content": p} for p in _pieces()), {}]
    chunks = [
        _chunk([{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}])
        for delta in deltas
    ]
    return [*chunks, {**_chunk([]), "usage": usage}] if usage is not None else chunks


def response(text: str = TEXT, usage: Any = RESPONSES_USAGE) -> dict[str, Any]:
    """A response of `/v1/responses`."""
    return _response("completed", [_message(text)], usage)


def response_events(usage: Any = RESPONSES_USAGE) -> list[dict[str, Any]]:
    """The events of a streamed one."""
    item = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}
    pending = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress"}
    sent: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response("in_progress", [], None)},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**pending, "content": []},
        },
        {"type": "response.content_part.added", **item, "part": part},
        *(
            {"type": "response.output_text.delta", **item, "delta": p, "logprobs": []}
            for p in _pieces()
        ),
        {"type": "response.output_text.done", **item, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **item, "part": {**part, "text": TEXT}},
        {"type": "response.output_item.done", "output_index": 0, "item": _message(TEXT)},
        {"type": "response.completed", "response": response(usage=usage)},
    ]
    return [{**one, "sequence_number": number} for number, one in enumerate(sent)]


def server() -> Server:
    """Answers as the API does."""
    return Server(_answer)


def client(answering: Server, **how: Any) -> Any:
    """The package's client, in front of a fake; untyped, as tests call it in every way."""
    http = answering.client()
    return openai.OpenAI(api_key="k", http_client=http, max_retries=0, **how)


def async_client(answering: Server, **how: Any) -> Any:
    """`client` for asyncio."""
    http = answering.async_client()
    return openai.AsyncOpenAI(api_key="k", http_client=http, max_retries=0, **how)


def _answer(asked: Asked) -> Answer:
    streamed = bool(asked.body.get("stream"))
    if asked.path.endswith("/responses"):
        if streamed:
            return Answer(pieces=events(*response_events(), named=True))
        return Answer(json=response())
    if streamed:
        options: dict[str, Any] = asked.body.get("stream_options") or {}
        wanted = options.get("include_usage")
        chunks = chat_chunks(CHAT_USAGE if wanted else None)
        return Answer(pieces=(*events(*chunks), "data: [DONE]\n\n"))
    return Answer(json=chat())


def _pieces() -> list[str]:
    return [TEXT[:10], TEXT[10:16], TEXT[16:]]


def _chunk(choices: list[Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": choices,
        "usage": None,
    }


def _message(text: str) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def _response(status: str, output: list[Any], usage: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": MODEL,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }
