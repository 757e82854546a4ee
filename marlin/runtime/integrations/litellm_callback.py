"""Counts what LiteLLM does besides completions, when LiteLLM has logged it."""

from __future__ import annotations

from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from marlin.normalise import litellm as usage_of
from marlin.runtime.integrations.calls import log_once
from marlin.runtime.meter import metering_run

__all__ = ["CarbonLogger", "is_counted_by_callback"]

_COUNTED = "marlin_counted"
"""Marks a call in what LiteLLM keeps of it: some are logged twice."""


def is_counted_by_callback(call_type: object) -> bool:
    """Whether the callback counts such a call; completions are counted where they are made."""
    return call_type not in ("completion", "acompletion")


class CarbonLogger(CustomLogger):
    """One of `litellm.callbacks`: embeddings, text completions and whatever else runs a model.

    LiteLLM calls it in the background, after the caller has the answer, in the caller's context
    where it keeps that: the call counts for the caller's run then, else for the ambient one. A
    stream that is not read to its end is never logged. Nothing here raises.
    """

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A synchronous call was answered."""
        _count(kwargs)

    def log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A synchronous call failed; it may have used tokens before."""
        _count(kwargs)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """An asynchronous call was answered."""
        _count(kwargs)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """An asynchronous call failed; it may have used tokens before."""
        _count(kwargs)


def _count(logged: dict[str, Any]) -> None:
    try:
        payload = logged.get("standard_logging_object")
        if payload is None or not is_counted_by_callback(payload.get("call_type")):
            return
        if logged.setdefault(_COUNTED, payload) is not payload:
            return
        if (tokens := usage_of.payload_tokens(payload)) is not None:
            metering_run().record(
                tokens,
                model=payload.get("model") or "unknown",
                provider=payload.get("custom_llm_provider"),
                latency_s=max(0.0, payload["endTime"] - payload["startTime"]),
            )
    except Exception:
        log_once("litellm", "a call that LiteLLM logged could not be counted")
