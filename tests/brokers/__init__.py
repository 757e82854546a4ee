"""The brokers that tests run against: the embedded one and Apache Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psutil

__all__ = ["Kind", "RunningBroker"]

Kind = Literal["embedded", "apache"]


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that accepts connections."""

    bootstrap_servers: str
    kind: Kind

    def process(self) -> psutil.Process:
        """Its process, to be suspended: a child of ours that listens where it should."""
        port = int(self.bootstrap_servers.rsplit(":", 1)[1])
        for child in psutil.Process().children(recursive=True):
            for connection in child.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return child
        raise AssertionError(f"nobody listens on {port}")
