"""The whole pipeline under one supervisor, for `up` and `demo`.

Broker, worker and sink; where a grid provider is configured, its publisher too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Self

from marlin.broker.cluster import create_topics
from marlin.broker.embedded import EmbeddedBroker
from marlin.broker.running import find_running
from marlin.cli.kafka import EventsLag, Offsets
from marlin.cli.supervisor import Supervised
from marlin.errors import ConfigurationError, EmbeddedBrokerError, StateError
from marlin.settings import Settings

__all__ = ["Pipeline", "only_one"]

_READY_TIMEOUT_S = 60.0
_WORKER_GRACE_S = 10.0
_SINK_GRACE_S = 60.0
_PUBLISHER_GRACE_S = 5.0
_POLL_S = 0.1
_SAY_AFTER_S = 2.0
"""Stopping that takes longer says what it waits for: the last acknowledgements always take one
commit interval, and that is nothing to worry anybody with."""

_STUCK_S = 15.0
"""Workers that commit nothing for so long while events wait are given up."""

_MOST_LOOKS = 3
"""How often stopping looks for events that arrived meanwhile."""


@contextlib.contextmanager
def only_one(home: Path, what: str) -> Generator[None]:
    """Keep a second `what` out of `home` while the block runs.

    Raises `ConfigurationError` when one runs already. A crash leaves nothing behind.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            running = find_running(home)
            which = (
                f" (process {running.pid}, Kafka {running.bootstrap_servers})" if running else ""
            )
            raise ConfigurationError(
                f"`marlin {what}` already runs in {home}{which}; use that one, or set MARLIN_HOME "
                "to another directory"
            ) from exc
        yield


class Pipeline:
    """Broker, worker and sink as child processes; nothing of them is left after the block.

    Without a configured cluster the embedded broker is started; with a configured grid provider
    and zones, their publisher. `say` is called with what a
    person should know: a restart, events still to be processed.
    """

    def __init__(self, settings: Settings, *, say: Callable[[str], None]) -> None:
        self._given = settings
        self._say = say
        self.home = settings.home_dir.absolute()
        self.logs = self.home / "logs"
        self.embedded = settings.kafka.bootstrap_servers is None
        self._broker = EmbeddedBroker(log=self.logs / "broker.log") if self.embedded else None
        self._services: list[Supervised] = []
        self._watching: list[asyncio.Task[None]] = []
        self.settings = settings
        """The settings with the address of the cluster in use, once started."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self.kill()
        await asyncio.gather(*(service.stop(grace_s=0) for service in self._services))
        if self._broker is not None:
            await self._broker.stop()

    @property
    def bootstrap_servers(self) -> str:
        """The address of the cluster in use."""
        return self.settings.kafka.bootstrap_servers or ""

    async def start(self) -> None:
        """Start everything; returns when events are metered and written.

        Raises `MarlinError` when a part does not start.
        """
        if self._broker is not None:
            await self._broker.__aenter__()
            address = {"bootstrap_servers": self._broker.bootstrap_servers}
            kafka = self._given.kafka.model_copy(update=address)
            self.settings = self._given.model_copy(update={"kafka": kafka})
        await create_topics(self.settings)
        self._services = [self._service("worker"), self._service("sink")]
        if self.settings.grid.publishes:
            self._services.append(self._service("grid", "grid", "publish"))
        starting = [
            asyncio.create_task(service.start(timeout_s=_READY_TIMEOUT_S))
            for service in self._services
        ]
        try:
            await asyncio.gather(*starting)
        finally:
            for task in starting:
                task.cancel()
        self._watching = [asyncio.create_task(service.run()) for service in self._services]

    async def watch(self, stop: asyncio.Event) -> None:
        """Keep everything running until `stop` is set.

        Raises `EmbeddedBrokerError` when the embedded broker dies: what it held is gone.
        """
        if self._broker is None:
            await stop.wait()
            return
        stopping = asyncio.create_task(stop.wait())
        dying = asyncio.create_task(self._broker.wait())
        await asyncio.wait((stopping, dying), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if dying.done():
            raise EmbeddedBrokerError(
                f"the embedded broker ended by itself (exit code {dying.result()}); events that "
                f"were not yet in {self.settings.database_path} are lost, the rest is safe; "
                f"start again (log: {self.logs / 'broker.log'})"
            )
        dying.cancel()

    async def stop(self) -> None:
        """Stop everything with nothing lost: worker, then sink, then broker.

        The embedded broker forgets, so it stops only when what it holds is processed. Raises
        `StateError` when something could not be processed.
        """
        worker, sink, *publishers = self._services
        for publisher in publishers:
            await publisher.stop(grace_s=_PUBLISHER_GRACE_S)
        if self.embedded:
            async with EventsLag(self.settings) as events:
                await self._drain(events)
                await worker.stop(grace_s=_WORKER_GRACE_S)
                late = await events.behind(await events.ends())
            if late:
                self._say(f"{late:,} events arrived while stopping and were not counted")
        else:
            await worker.stop(grace_s=_WORKER_GRACE_S)
        code = await sink.stop(grace_s=_SINK_GRACE_S)
        if code != 0:
            raise StateError(
                f"the sink did not finish (exit code {code}, log: {sink.log}); "
                + ("its last events are lost" if self.embedded else "start again, it resumes")
            )

    def kill(self) -> None:
        """End worker and sink now. The broker ends with the block."""
        for service in self._services:
            service.kill()

    async def _drain(self, events: EventsLag) -> None:
        ends = await events.ends()
        for _ in range(_MOST_LOOKS):
            await self._until_committed(events, ends)
            # Producers may not have heard yet that we are stopping.
            newer = await events.ends()
            if newer == ends:
                return
            ends = newer

    async def _until_committed(self, events: EventsLag, ends: Offsets) -> None:
        least = told = await events.behind(ends)
        began = moved = time.monotonic()
        said = False
        while least:
            await asyncio.sleep(_POLL_S)
            behind = await events.behind(ends)
            if behind and not said and time.monotonic() - began > _SAY_AFTER_S:
                said = True
                self._say(f"{behind:,} events are still being processed; Ctrl-C again drops them")
            if behind < least:
                least, moved = behind, time.monotonic()
            elif time.monotonic() - moved > _STUCK_S:
                raise StateError(
                    f"the worker has not gone on for {_STUCK_S:g} s and {least:,} of {told:,} "
                    f"events are not processed; they are lost (log: {self._services[0].log})"
                )

    def _service(self, name: str, *command: str) -> Supervised:
        ready_file = self.home / f"{name}.ready"
        started = [*(command or (name,)), "--ready-file", str(ready_file)]
        return Supervised(
            name,
            [sys.executable, "-m", "marlin.cli", *started],
            env=self._environment(),
            log=self.logs / f"{name}.log",
            ready_file=ready_file,
            say=self._say,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "MARLIN_HOME": str(self.home),
            "MARLIN_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "MARLIN_KAFKA__TOPIC_PREFIX": self.settings.kafka.topic_prefix,
            "MARLIN_SINK__DATABASE": str(self.settings.database_path.absolute()),
        }
