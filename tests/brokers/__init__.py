"""The brokers that tests run against: the embedded one and Apache Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Kind", "RunningBroker"]

Kind = Literal["embedded", "apache"]


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that accepts connections."""

    bootstrap_servers: str
    kind: Kind
