"""Making a usage event in the agent's thread: the contract's promise at a tenth of its cost.

Cheap checks that suffice come first; whatever they do not let through, the contract itself judges.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

from pydantic import ValidationError

from marlin.errors import DataError
from marlin.runtime.outgoing import Origin, RecordedCall
from marlin.schemas import MAX_TOKENS
from marlin.schemas.usage import UsageQuality
from marlin.tokens import TokenUsage

__all__ = ["Recorder"]

KNOWN_NAMES = 10_000
"""Combinations of agent, model, provider and region that are remembered as valid [count]."""

_QUALITIES = frozenset(get_args(UsageQuality))
_INFINITE = float("inf")


class Recorder:
    """Makes the events of one run in this process."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._known: set[tuple[str, str, str, str]] = set()

    @property
    def known_names(self) -> int:
        """Combinations of names in memory [count]; never more than `KNOWN_NAMES`."""
        return len(self._known)

    def record(
        self,
        tokens: TokenUsage,
        agent_id: str,
        model: str,
        provider: str,
        region: str,
        latency_s: float | None,
    ) -> RecordedCall:
        """A valid event, as of now; its `seq` is set when it is counted. Any thread may call it.

        Raises `DataError` for counts or names that the contract refuses.
        """
        call = RecordedCall(
            self._origin,
            0,
            datetime.now(UTC),
            agent_id,
            provider,
            model,
            region,
            tokens.input_tokens,
            tokens.cache_read_tokens,
            tokens.cache_write_tokens,
            tokens.output_tokens,
            tokens.reasoning_tokens,
            latency_s,
            tokens.cost_usd,
            tokens.quality,
        )
        if not (_has_plain_numbers(call) and self._has_known_names(call)):
            self._judge(call)
        return call

    def _has_known_names(self, call: RecordedCall) -> bool:
        try:
            return (call.agent_id, call.model, call.provider, call.region) in self._known
        except TypeError:  # a list for a name, say
            return False

    def _judge(self, call: RecordedCall) -> None:
        try:
            usage = call.usage()
        except ValidationError as exc:
            raise DataError(
                f"usage of agent {call.agent_id} in run {call.run_id} refused and not counted: "
                f"{exc}"
            ) from exc
        # The contract's own values: it turns a whole number of dollars into a float.
        call.latency_s, call.cost_usd = usage.latency_s, usage.cost_usd
        if len(self._known) >= KNOWN_NAMES:
            self._known.clear()
        self._known.add((call.agent_id, call.model, call.provider, call.region))


def _has_plain_numbers(call: RecordedCall) -> bool:
    """Whether the contract would take every number as it is. False: it has to be asked."""
    return (
        type(call.input_tokens) is int
        and type(call.output_tokens) is int
        and type(call.cache_read_tokens) is int
        and type(call.cache_write_tokens) is int
        and type(call.reasoning_tokens) is int
        and 0 <= call.input_tokens <= MAX_TOKENS
        and 0 <= call.cache_read_tokens <= MAX_TOKENS
        and 0 <= call.cache_write_tokens <= MAX_TOKENS
        and 0 <= call.reasoning_tokens <= call.output_tokens <= MAX_TOKENS
        and _is_plain(call.latency_s)
        and _is_plain(call.cost_usd)
        and type(call.usage_quality) is str
        and call.usage_quality in _QUALITIES
    )


def _is_plain(value: float | None) -> bool:
    return value is None or (type(value) is float and 0 <= value < _INFINITE)
