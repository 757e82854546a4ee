"""The link of a process to its cluster: one thread with a producer and a listener."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from marlin.broker.cluster import Cluster, connect, create_topics, resolve_bootstrap
from marlin.errors import BrokerError, MarlinError
from marlin.runtime.listener import CommandListener
from marlin.runtime.outgoing import OutgoingEvent
from marlin.runtime.producer import EventProducer
from marlin.runtime.quiet import quiet_client_logs
from marlin.runtime.run import Run
from marlin.runtime.spill import SpillFolder
from marlin.settings import KafkaSettings, RuntimeSettings, Settings
from marlin.topics import Topics

__all__ = ["KafkaLink", "LinkHealth", "close_links", "link_for"]

log = logging.getLogger("marlin.runtime")

BATCH_BYTES = 256 * 1024
"""Largest record batch [bytes]; far below what brokers take, far above one event."""

THREAD_NAME = "marlin-link"
quiet_client_logs(THREAD_NAME)

FIRST_RETRY_S = 0.5

SECURE_INTERVAL_S = 0.1
"""How often it is looked whether events should go to disk [s]."""

PROBE_TIMEOUT_S = 3.0
WATCH_INTERVAL_S = 5.0
"""How often a link that works looks whether the broker still listens [s]."""

STOP_TIMEOUT_S = 2.0

END_TIMEOUT_S = 10.0
"""Longest the end of the program waits for the thread to put away what is left [s]."""

EMBEDDED_FETCH_WAIT_MS = 10
"""The embedded broker answers an empty fetch only when its time is up, whatever comes meanwhile
[ms]: it bounds how late an abort is."""


@dataclass(frozen=True, slots=True)
class LinkHealth:
    """How a link stands."""

    connected: bool
    undelivered: int
    """Events that wait to be sent, in memory or on disk [count]."""
    spilled: int
    """Of these, on disk [count]."""
    dropped: int
    """Events lost, because the broker was away for longer than there was room [count]."""
    spill_file: Path | None
    """The file of this process; None before one was needed."""


class KafkaLink:
    """Sends events and passes on commands, in the background, for every run of the process.

    A broker that is away is looked for again and again; until it is back, events wait in memory
    and on disk, and runs go on by themselves. Made by `link_for`; implements `Uplink`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topics(settings.kafka.topic_prefix)
        self._producer = self._new_producer()
        self._listener = CommandListener()
        self._said_away = False
        self._connected = self._was_connected = False
        self._closing = threading.Event()
        self._end_connection: Callable[[], object] | None = None
        self._thread = self._new_thread()
        self._thread.start()

    def health(self) -> LinkHealth:
        """How it stands now; from any thread."""
        file = self._producer.backlog.spill_file
        return LinkHealth(
            connected=self._connected,
            undelivered=self._producer.undelivered,
            spilled=self._producer.backlog.spilled,
            dropped=self._producer.dropped,
            spill_file=file.path if file else None,
        )

    def emit(self, event: OutgoingEvent) -> None:
        """See `Uplink`."""
        self._producer.emit(event)

    def open(self, run: Run) -> None:
        """See `Uplink`."""
        self._listener.register(run.run_id, run.obey)

    def close(self, run: Run) -> None:
        """See `Uplink`."""
        self._listener.retire(run.run_id, run.obey)

    async def flush(self, timeout_s: float) -> bool:
        """See `Uplink`."""
        waiter = asyncio.wrap_future(self._producer.drained())
        try:
            return await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            # The next run must not wait in vain as well; the first delivery takes this back.
            self._producer.set_away(True)
            return False

    def shut_down(self) -> None:
        """Send what is left, for at most `close_timeout_s`, put the rest on disk, end the
        thread."""
        if self._thread.ident is None:
            return  # renewed in a child that sent nothing
        waiter = self._producer.drained()
        with suppress(TimeoutError):
            waiter.result(self._settings.runtime.close_timeout_s)
        waiter.cancel()
        self._closing.set()
        end = self._end_connection
        if end is not None:
            with suppress(RuntimeError):  # its loop has ended already
                end()
        self._thread.join(END_TIMEOUT_S)

    def renew(self) -> None:
        """Go on in a forked child: it has the parent's object, but none of its threads, and its
        locks as they were. What the parent has not sent, the parent sends."""
        self._producer.backlog.abandon()
        self._producer = self._new_producer()
        self._listener = self._listener.renewed()
        self._closing = threading.Event()
        self._end_connection = None
        self._thread = self._new_thread()
        # Most children never meter anything: it starts with the first event.
        self._producer.backlog.wake_by(self._start_in_child)

    def _start_in_child(self) -> None:
        self._thread.start()
        # Children of multiprocessing end without `atexit`.
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.Finalize(None, close_links, exitpriority=0)

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)

    def _work(self) -> None:
        retry_s = FIRST_RETRY_S
        longest_s = self._settings.runtime.reconnect_max_s
        while not self._closing.is_set():
            self._was_connected = False
            try:
                # Each connection has a loop of its own: whatever aiokafka leaves running when
                # its broker is gone ends with it.
                asyncio.run(self._connect_and_serve())
            except asyncio.CancelledError:
                # Ours at the end; otherwise one that aiokafka let through from its own requests.
                self._say_away(BrokerError("the connection was lost"))
            except Exception as exc:
                self._say_away(exc)
            self._connected = False
            self._producer.set_away(True)
            retry_s = FIRST_RETRY_S if self._was_connected else min(2 * retry_s, longest_s)
            until_s = time.monotonic() + retry_s
            while time.monotonic() < until_s and not self._closing.wait(SECURE_INTERVAL_S):
                self._producer.secure()
        self._put_away()

    def _put_away(self) -> None:
        """The last of the thread: what was not delivered goes to disk, and both is said."""
        self._producer.backlog.close()
        health = self.health()
        if health.spilled:
            log.warning(
                "%d events did not reach Kafka and wait in %s; the next process that sends to "
                "this cluster delivers them",
                *(health.spilled, health.spill_file),
            )
        left = health.undelivered - health.spilled
        if left or health.dropped:
            log.error(
                "%d events were never sent to Kafka: %d were left at the end, %d had no room",
                *(left + health.dropped, left, health.dropped),
            )

    async def _connect_and_serve(self) -> None:
        main = asyncio.current_task()
        if main is not None:
            loop = asyncio.get_running_loop()
            self._end_connection = lambda: loop.call_soon_threadsafe(main.cancel)
        if self._closing.is_set():
            return
        securing = asyncio.create_task(self._secure())
        try:
            await _probe(self._bootstrap())
            async with AsyncExitStack() as stack:
                await self._serve(stack)
        finally:
            securing.cancel()

    async def _secure(self) -> None:
        while True:
            await asyncio.sleep(SECURE_INTERVAL_S)
            self._producer.secure()

    def _bootstrap(self) -> str:
        bootstrap = resolve_bootstrap(self._settings)
        if bootstrap is None:
            raise BrokerError("the cluster that `marlin up` ran has stopped")
        return bootstrap

    async def _serve(self, stack: AsyncExitStack) -> None:
        """Send and listen until the cluster fails us, which raises."""
        cluster = await connect(self._settings)
        partitions = (await create_topics(self._settings))[self._topics.events]
        producer = AIOKafkaProducer(**cluster.producer_options(), max_batch_size=BATCH_BYTES)
        stack.push_async_callback(_stop, producer)
        await producer.start()
        consumer = _consumer(cluster, self._settings.runtime)
        stack.push_async_callback(_stop, consumer)
        await consumer.start()
        # Before anything is sent: the first event may already lead to a command.
        await self._listener.attach(consumer, self._topics.commands, partitions, cluster.cluster_id)
        self._producer.set_away(False)
        self._said_away, self._connected, self._was_connected = False, True, True
        await _until_one_fails(
            self._producer.pump(producer, self._topics.events, partitions),
            self._producer.deliver_leftovers(producer, self._topics.events, partitions),
            self._listener.listen(consumer),
            _watch(cluster.bootstrap_servers),
        )

    def _new_producer(self) -> EventProducer:
        runtime = self._settings.runtime
        return EventProducer(
            runtime.buffer_events,
            SpillFolder(self._settings) if runtime.spill else None,
            spill_after_s=runtime.spill_after_s,
        )

    def _say_away(self, exc: Exception) -> None:
        if not (self._said_away or self._closing.is_set()):
            expected = isinstance(exc, MarlinError | KafkaError | OSError)
            log.warning(
                "Kafka is away: runs go on with local estimates and budgets, their events wait %s "
                "and are sent when it is back: %s",
                *("on disk" if self._settings.runtime.spill else "in memory", exc),
                exc_info=None if expected else exc,
            )
        self._said_away = True


async def _probe(bootstrap: str) -> None:
    """Raise unless some broker listens. aiokafka would print an error for each attempt."""
    errors: list[str] = []
    for server in bootstrap.split(","):
        # `[protocol://]host:port`, where an IPv6 host stands in brackets.
        host, _, port = server.strip().rpartition("://")[2].rpartition(":")
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host.strip("[]"), port)
            writer.close()
            return
        except (OSError, TimeoutError) as exc:
            errors.append(f"{server}: {exc or 'no answer'}")
    raise BrokerError(f"no broker listens: {', '.join(errors)}")


async def _watch(bootstrap: str) -> None:
    # aiokafka's consumer never says that its broker is gone, it only tries again.
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        await _probe(bootstrap)


def _consumer(cluster: Cluster, runtime: RuntimeSettings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **cluster.client_options(),
        group_id=None,
        enable_auto_commit=False,
        # A position that is gone: reading too much is harmless, missing a command is not.
        auto_offset_reset="earliest",
        fetch_max_wait_ms=(
            EMBEDDED_FETCH_WAIT_MS if cluster.embedded else runtime.fetch_max_wait_ms
        ),
    )


async def _until_one_fails(*endless: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(one) for one in endless]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    # Stopping waits for answers that a dead broker never gives; what is not known to be
    # delivered is sent again by the next connection.
    with suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(client.stop(), STOP_TIMEOUT_S)


_links: dict[tuple[int, Path, KafkaSettings, RuntimeSettings], KafkaLink] = {}
_links_lock = threading.Lock()


def link_for(settings: Settings) -> KafkaLink:
    """The link of this process to the cluster of `settings`, started at the first call."""
    key = (os.getpid(), settings.home_dir, settings.kafka, settings.runtime)
    with _links_lock:
        link = _links.get(key)
        if link is None:
            link = _links[key] = KafkaLink(settings)
        return link


def close_links() -> None:
    """Shut down this process's links. `uplink` calls it at its end; new runs get new links."""
    with _links_lock:
        own = [key for key in _links if key[0] == os.getpid()]
        links = [_links.pop(key) for key in own]
    for link in links:
        link.shut_down()


def _renew_links() -> None:
    """In a forked child: it has the parent's links but none of their threads."""
    global _links_lock
    _links_lock = threading.Lock()
    for key in list(_links):
        link = _links.pop(key)
        link.renew()
        _links[(os.getpid(), *key[1:])] = link


os.register_at_fork(after_in_child=_renew_links)
