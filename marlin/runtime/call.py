"""A model call under way: what it reserved, and how it is settled."""

from __future__ import annotations

import time
from typing import Protocol

from marlin.runtime.carbon_event import CarbonEvent
from marlin.tokens import TokenUsage

__all__ = ["Call"]


class _Ledger(Protocol):
    def settle(
        self, call: Call, tokens: TokenUsage, model: str, latency_s: float
    ) -> CarbonEvent | None: ...
    def release(self, call: Call) -> None: ...


class Call:
    """Given by `start_call`, before the call is made. Settled once, from any thread; whatever is
    called after that does nothing."""

    __slots__ = (
        *("_ledger", "_started_s", "agent_id", "forecast_g", "is_settled", "model"),
        *("prompt_tokens", "provider", "region"),
    )

    def __init__(
        self,
        ledger: _Ledger,
        *,
        agent_id: str,
        model: str,
        provider: str,
        region: str,
        prompt_tokens: int,
        forecast_g: float,
    ) -> None:
        self._ledger = ledger
        self._started_s = time.perf_counter()
        self.agent_id = agent_id
        self.model = model
        self.provider = provider
        self.region = region
        self.prompt_tokens = prompt_tokens
        self.forecast_g = forecast_g
        """What it was expected to take, and reserves [gCO2e], on the policy's bound."""
        self.is_settled = False
        """Set by the run, under its lock."""

    def finish(self, tokens: TokenUsage, *, model: str | None = None) -> CarbonEvent | None:
        """The call was made and took `tokens`; `model` is the one that answered, if it says so.

        Counts it as `record` does, with the time since `start_call` as its latency. Never raises
        for a breach: what was used counts, and the next call is refused. Raises `DataError` for
        impossible counts; the reservation is given back then. None where it was settled before.
        """
        latency_s = time.perf_counter() - self._started_s
        return self._ledger.settle(self, tokens, model or self.model, latency_s)

    def release(self) -> None:
        """Nothing was used: gives the reservation back and counts nothing."""
        self._ledger.release(self)
