"""Usage as LiteLLM tells it: of its answers, and of the records that its callbacks log.

LiteLLM brings every provider to OpenAI's shape, with the cache inside `prompt_tokens`, and leaves
Anthropic's cache counts beside it: https://github.com/BerriAI/litellm, types/utils.py (`Usage`,
`StandardLoggingPayload`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from marlin.errors import DataError
from marlin.normalise import openai
from marlin.normalise.counts import count, part
from marlin.tokens import TokenUsage

__all__ = ["payload_event", "payload_tokens", "usage_object"]

_MODEL_CALLS = frozenset(
    {
        *("completion", "text_completion", "responses", "anthropic_messages"),
        *("generate_content", "generate_content_stream", "embedding", "rerank"),
        *("image_generation", "image_edit", "speech", "transcription"),
        *("video_generation", "create_video", "_arealtime", "_aresponses_websocket"),
    }
)
"""Operations (without the `a` of the asynchronous ones) that run a model even where LiteLLM tells
no tokens. The others list files, retrieve batches and the like."""

_REGION_IN_HOST = re.compile(
    r"//(?:([a-z]+-[a-z]+\d+)-aiplatform\.googleapis\.com"
    r"|bedrock[a-z-]*\.([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com)"
)


def usage_object(usage: Mapping[str, Any]) -> TokenUsage:
    """`usage` of an answer, or `usage_object` of a logged record.

    Raises `DataError` for counts that are none or contradict each other.
    """
    details = part(usage, "prompt_tokens_details")
    read = count(usage, "cache_read_input_tokens") or count(details, "cached_tokens")
    written = (
        count(usage, "cache_creation_input_tokens")
        or count(details, "cache_creation_tokens")
        or count(details, "cache_write_tokens")
    )
    cache = {"cached_tokens": read, "cache_write_tokens": written}
    # Embeddings may come without an output.
    output = count(usage, "completion_tokens")
    return openai.chat({**usage, "prompt_tokens_details": cache, "completion_tokens": output})


def payload_tokens(payload: Mapping[str, Any]) -> TokenUsage | None:
    """The tokens of a `StandardLoggingPayload`; None where no model ran.

    No model ran for an answer out of LiteLLM's own cache, for a request that was refused (4xx),
    and for operations that run none. A failure with tokens is a stream that broke: `partial`. A
    call without tokens is `missing`, never left out. Raises `DataError` for impossible counts.
    """
    if payload.get("cache_hit") is True:
        return None
    usage = _usage(payload)
    if count(usage, "prompt_tokens") or count(usage, "completion_tokens"):
        failed = payload.get("status") == "failure"
        tokens = replace(usage_object(usage), cost_usd=_cost_usd(payload))
        return replace(tokens, quality="partial") if failed else tokens
    return TokenUsage(0, 0, quality="missing") if _ran_a_model(payload) else None


def payload_event(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of a usage event, but for `producer_id` and `seq`; None where no model ran.

    Run and agent are `marlin_run_id` and `marlin_agent_id` in the request's metadata, or its
    headers `x-marlin-run-id` and `x-marlin-agent-id`; without them the run is LiteLLM's session,
    else its trace, which by default is each call alone. Values are not validated: `Usage` does
    that. Raises `DataError` where something that every payload has is missing or wrong.
    """
    tokens = payload_tokens(payload)
    if tokens is None:
        return None
    metadata = part(payload, "metadata")
    call_id = _text(payload, "litellm_call_id")
    event_id = _text(payload, "id") or call_id
    if event_id is None:
        raise DataError("id is missing, expected the id of the answer or of the call")
    ended_at = _number(payload, "endTime")
    session = _text(payload, "session_id") or _text(payload, "trace_id")
    return {
        "event_id": event_id,
        "run_id": _named(metadata, "run_id") or session or call_id or event_id,
        "agent_id": _named(metadata, "agent_id") or _agent(metadata) or "default",
        "time": _time(ended_at),
        "provider": _text(payload, "custom_llm_provider") or "",
        "model": _text(payload, "model") or _text(payload, "model_group") or "unknown",
        "region": _named(metadata, "region") or _region(payload),
        "input_tokens": tokens.input_tokens,
        "cache_read_tokens": tokens.cache_read_tokens,
        "cache_write_tokens": tokens.cache_write_tokens,
        "output_tokens": tokens.output_tokens,
        "reasoning_tokens": tokens.reasoning_tokens,
        "latency_s": max(0.0, round(ended_at - _number(payload, "startTime"), 6)),
        "cost_usd": tokens.cost_usd,
        "tenant": _named(metadata, "tenant") or _text(metadata, "user_api_key_org_id"),
        "project": _named(metadata, "project") or _text(metadata, "user_api_key_team_id"),
        "usage_quality": tokens.quality,
    }


def _usage(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    for holder in ("metadata", "hidden_params"):
        if usage := part(part(payload, holder), "usage_object"):
            return usage
    return payload


def _ran_a_model(payload: Mapping[str, Any]) -> bool:
    call_type = _text(payload, "call_type") or ""
    if not _MODEL_CALLS & {call_type, call_type.removeprefix("a")}:
        return False
    if payload.get("status") != "failure":
        return True
    code = part(payload, "error_information").get("error_code")
    # A time-out (408) may have been a long answer; other 4xx never reached the model.
    return re.fullmatch(r"4\d\d", str(code)) is None or str(code) == "408"


def _cost_usd(payload: Mapping[str, Any]) -> float | None:
    cost = payload.get("response_cost")
    # LiteLLM says 0 where it knows no price.
    if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 < cost < math.inf:
        return float(cost)
    return None


def _named(metadata: Mapping[str, Any], name: str) -> str | None:
    """What the request said itself; a value that is no text is refused, not passed over."""
    key, header = f"marlin_{name}", f"x-marlin-{name.replace('_', '-')}"
    for value in (
        part(metadata, "requester_metadata").get(key),
        part(metadata, "spend_logs_metadata").get(key),
        part(metadata, "requester_custom_headers").get(header),
    ):
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise DataError(f"{key} is {str(value)[:100]}, expected text")
        return value
    return None


def _agent(metadata: Mapping[str, Any]) -> str | None:
    """LiteLLM's own name for the agent, where it was given one."""
    places = (part(metadata, key) for key in ("requester_metadata", "spend_logs_metadata"))
    return next((found for place in places if (found := _text(place, "agent_id"))), None)


def _region(payload: Mapping[str, Any]) -> str:
    parameters = part(payload, "model_parameters")
    for key in ("aws_region_name", "vertex_location", "vertex_ai_location", "region_name"):
        if named := _text(parameters, key):
            return named
    found = _REGION_IN_HOST.search(_text(payload, "api_base") or "")
    return (found[1] or found[2]) if found else ""


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    value = holder.get(key)
    return value if isinstance(value, str) and value else None


def _number(payload: Mapping[str, Any], key: str) -> float:
    value = payload.get(key)
    # No number at all compares with NaN; a huge int overflows as a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise DataError(f"{key} is {str(value)[:100]}, expected a Unix time in seconds")
    return float(value)


def _time(unix_s: float) -> datetime:
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, OSError, ValueError) as exc:
        raise DataError(f"endTime is {unix_s:g}, expected a Unix time in seconds") from exc
