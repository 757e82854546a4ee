"""What a run sends: cheap to make in the agent's thread, encoded later in the background."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import orjson

from marlin.schemas import AbortAcknowledged, RunFinished, RunStarted, Usage, dump
from marlin.schemas.usage import UsageQuality

__all__ = ["Announcement", "Origin", "OutgoingEvent", "RecordedCall"]


class OutgoingEvent(Protocol):
    """An event on its way to Kafka. Complete and valid when emitted; never changes."""

    @property
    def run_id(self) -> str:
        """The run, the record's key."""
        ...

    @property
    def type(self) -> str:
        """The contract's name: `usage`, `run.started`, …"""
        ...

    @property
    def is_usage(self) -> bool:
        """Whether it is a model call's usage, of which there are many."""
        ...

    def encode(self) -> bytes:
        """The record's value, as `schemas.dump` writes it. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Announcement:
    """A lifecycle event: rare, so the contract itself is carried."""

    event: RunStarted | RunFinished | AbortAcknowledged
    is_usage = False

    @property
    def run_id(self) -> str:
        """The run."""
        return self.event.run_id

    @property
    def type(self) -> str:
        """The contract's name."""
        return self.event.type

    def encode(self) -> bytes:
        """The record's value."""
        return dump(self.event)


@dataclass(frozen=True, slots=True)
class Origin:
    """What all calls of a run in this process share."""

    run_id: str
    producer_id: str
    tenant: str | None
    project: str | None
    labels: Mapping[str, str] | None


class RecordedCall:
    """One model call, counted: the fields of `Usage`, checked by the run that made it.

    Building the contract takes ten times as long as this, and the agent would pay for it.
    """

    __slots__ = (
        *("_origin", "agent_id", "cache_read_tokens", "cache_write_tokens", "cost_usd"),
        *("input_tokens", "latency_s", "model", "output_tokens", "provider"),
        *("reasoning_tokens", "region", "seq", "time", "usage_quality"),
    )
    type = "usage"
    is_usage = True

    def __init__(
        self,
        origin: Origin,
        seq: int,
        time: datetime,
        agent_id: str,
        provider: str,
        model: str,
        region: str,
        input_tokens: int,
        cache_read_tokens: int,
        cache_write_tokens: int,
        output_tokens: int,
        reasoning_tokens: int,
        latency_s: float | None,
        cost_usd: float | None,
        usage_quality: UsageQuality,
    ) -> None:
        self._origin = origin
        self.seq = seq
        self.time = time
        self.agent_id = agent_id
        self.provider = provider
        self.model = model
        self.region = region
        self.input_tokens = input_tokens
        self.cache_read_tokens = cache_read_tokens
        self.cache_write_tokens = cache_write_tokens
        self.output_tokens = output_tokens
        self.reasoning_tokens = reasoning_tokens
        self.latency_s = latency_s
        self.cost_usd = cost_usd
        self.usage_quality: UsageQuality = usage_quality

    @property
    def run_id(self) -> str:
        """The run."""
        return self._origin.run_id

    @property
    def event_id(self) -> str:
        """Unique: no other call of this producer has its number."""
        return f"{self._origin.producer_id}-{self.seq}"

    def fields(self) -> dict[str, Any]:
        """The contract's fields, in its order; those without a value are left out."""
        origin = self._origin
        fields: dict[str, Any] = {
            "type": "usage",
            "event_id": self.event_id,
            "run_id": origin.run_id,
            "agent_id": self.agent_id,
            "producer_id": origin.producer_id,
            "seq": self.seq,
            "time": self.time,
            "provider": self.provider,
            "model": self.model,
            "region": self.region,
            "input_tokens": self.input_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "latency_s": self.latency_s,
            "cost_usd": self.cost_usd,
            "tenant": origin.tenant,
            "project": origin.project,
            "labels": origin.labels,
            "usage_quality": self.usage_quality,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def usage(self) -> Usage:
        """The contract. Raises pydantic's `ValidationError` where a field breaks it."""
        return Usage(**self.fields())

    def encode(self) -> bytes:
        """The record's value."""
        return orjson.dumps(self.fields(), option=orjson.OPT_UTC_Z)
