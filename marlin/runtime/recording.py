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

_QUALITIES = get_args(UsageQuality)
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
        fresh, read = tokens.input_tokens, tokens.cache_read_tokens
        written = tokens.cache_write_tokens
        output, reasoning, cost_usd = tokens.output_tokens, tokens.reasoning_tokens, tokens.cost_usd
        call = RecordedCall(
            self._origin,
            0,
            datetime.now(UTC),
            agent_id,
            provider,
            model,
            region,
            fresh,
            read,
            written,
            output,
            reasoning,
            latency_s,
            cost_usd,
            tokens.quality,
        )
        try:
            is_known = (agent_id, model, provider, region) in self._known
        except TypeError:  # a list for a name, say
            is_known = False
        if not (
            is_known
            and type(fresh) is type(read) is type(written) is type(output) is type(reasoning) is int
            and 0 <= fresh <= MAX_TOKENS
            and 0 <= read <= MAX_TOKENS
            and 0 <= written <= MAX_TOKENS
            and 0 <= reasoning <= output <= MAX_TOKENS
            and (latency_s is None or _is_plain(latency_s))
            and (cost_usd is None or _is_plain(cost_usd))
            and tokens.quality in _QUALITIES
        ):
            self._judge(call)
        return call

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


def _is_plain(value: float) -> bool:
    return type(value) is float and 0 <= value < _INFINITE
