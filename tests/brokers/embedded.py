"""The embedded broker, for a whole test session."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from marlin.broker.embedded import EmbeddedBroker

__all__ = ["embedded_broker"]


@contextmanager
def embedded_broker(log: Path) -> Generator[str]:
    """Run the embedded broker while the block runs; yields its `host:port`.

    It has a thread and an event loop of its own: each test has another loop, and a subprocess
    is bound to the loop that started it.
    """
    address: Future[str] = Future()
    loop = asyncio.new_event_loop()
    finish = asyncio.Event()

    async def serve() -> None:
        async with EmbeddedBroker(log=log) as broker:
            address.set_result(broker.bootstrap_servers)
            await finish.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as exc:
            if address.done():
                raise
            address.set_exception(exc)
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="embedded-broker")
    thread.start()
    try:
        yield address.result(timeout=60)
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(finish.set)
        thread.join()
