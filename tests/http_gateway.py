"""The gateway as tests run it: over real sockets, with or without Kafka behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from marlin.errors import BrokerError
from marlin.schemas import Event
from marlin.settings import GatewaySettings
from marlin.web.gateway import gateway_app, serve

__all__ = ["MemoryLog", "free_port", "served"]


class MemoryLog:
    """Takes events as Kafka would, or refuses them while `away`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.away = False

    async def publish(self, events: Sequence[Event]) -> None:
        """See `EventLog`."""
        if self.away:
            raise BrokerError("Kafka is away; send them again")
        self.events += events

    async def reachable(self) -> bool:
        """See `EventLog`."""
        return not self.away


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@asynccontextmanager
async def served(settings: GatewaySettings, log: MemoryLog | None = None) -> AsyncGenerator[str]:
    """Serve the application on a free loopback port; yields its URL."""
    stop = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = gateway_app(settings, log or MemoryLog())
        serving = asyncio.create_task(serve(app, listener, stop=stop))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            await serving
