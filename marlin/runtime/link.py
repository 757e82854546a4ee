"""The link of a process to its cluster: one thread with a producer and a listener."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from marlin.broker.cluster import Cluster, connect, create_topics, resolve_bootstrap
from marlin.errors import BrokerError, MarlinError
from marlin.runtime.listener import CommandListener
from marlin.runtime.producer import EventProducer
from marlin.runtime.quiet import quiet_client_logs
from marlin.runtime.run import Run
from marlin.schemas import Event
from marlin.settings import KafkaSettings, Settings
from marlin.topics import Topics

__all__ = ["KafkaLink", "close_links", "link_for"]

log = logging.getLogger("marlin.runtime")

BUFFER_EVENTS = 20_000
"""Events kept while the broker is away [count]; about 2 KB each in memory."""

BATCH_BYTES = 256 * 1024
"""Largest record batch [bytes]; far below what brokers take, far above one event."""

THREAD_NAME = "marlin-link"
quiet_client_logs(THREAD_NAME)

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 15.0

PROBE_TIMEOUT_S = 3.0
WATCH_INTERVAL_S = 5.0
"""How often a link that works looks whether the broker still listens [s]."""

STOP_TIMEOUT_S = 2.0

CLOSE_TIMEOUT_S = 5.0
"""Longest the end of the program waits for events still to be sent [s]."""

FETCH_WAIT_MS = 500
EMBEDDED_FETCH_WAIT_MS = 20
"""How long the broker may hold an empty fetch [ms]. Kafka answers as soon as a command comes;
the embedded broker answers only when the time is up, so it bounds how late an abort is."""


class KafkaLink:
    """Sends events and passes on commands, in the background, for every run of the process.

    A broker that is away is looked for again and again; until it is back, events wait in the
    buffer and runs go on by themselves. Made by `link_for`; implements `Uplink`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topics(settings.kafka.topic_prefix)
        self._producer = EventProducer(BUFFER_EVENTS)
        self._listener = CommandListener()
        self._said_away = False
        self._was_connected = False
        self._closing = threading.Event()
        self._end_connection: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Events lost because the broker was away for longer than the buffer lasts [count]."""
        return self._producer.dropped

    @property
    def undelivered(self) -> int:
        """Events that wait to be sent [count]."""
        return self._producer.undelivered

    def emit(self, event: Event) -> None:
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
        """Send what is left, for at most `CLOSE_TIMEOUT_S`, and end the thread."""
        waiter = self._producer.drained()
        with suppress(TimeoutError):
            waiter.result(CLOSE_TIMEOUT_S)
        waiter.cancel()
        self._closing.set()
        end = self._end_connection
        if end is not None:
            with suppress(RuntimeError):  # its loop has ended already
                end()
        self._thread.join(CLOSE_TIMEOUT_S)
        missing = self._producer.undelivered
        if missing or self.dropped:
            log.error(
                "%d events were never sent to Kafka: %d were left at the end, %d had no room",
                *(missing + self.dropped, missing, self.dropped),
            )

    def _work(self) -> None:
        retry_s = FIRST_RETRY_S
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
            self._producer.set_away(True)
            retry_s = FIRST_RETRY_S if self._was_connected else min(2 * retry_s, LONGEST_RETRY_S)
            self._closing.wait(retry_s)

    async def _connect_and_serve(self) -> None:
        main = asyncio.current_task()
        if main is not None:
            loop = asyncio.get_running_loop()
            self._end_connection = lambda: loop.call_soon_threadsafe(main.cancel)
        if self._closing.is_set():
            return
        await _probe(self._bootstrap())
        async with AsyncExitStack() as stack:
            await self._serve(stack)

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
        consumer = _consumer(cluster)
        stack.push_async_callback(_stop, consumer)
        await consumer.start()
        self._listener.attach(consumer, self._topics.commands, cluster.cluster_id)
        self._producer.set_away(False)
        self._said_away, self._was_connected = False, True
        pump = self._producer.pump(producer, self._topics.events, partitions, self._listener.follow)
        await _until_one_fails(
            pump, self._listener.listen(consumer), _watch(cluster.bootstrap_servers)
        )

    def _say_away(self, exc: Exception) -> None:
        if not (self._said_away or self._closing.is_set()):
            expected = isinstance(exc, MarlinError | KafkaError | OSError)
            log.warning(
                "Kafka is away: runs go on with local estimates and budgets, up to %d events wait "
                "and are sent when it is back: %s",
                *(BUFFER_EVENTS, exc),
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


def _consumer(cluster: Cluster) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **cluster.client_options(),
        group_id=None,
        enable_auto_commit=False,
        # A position that is gone: reading too much is harmless, missing a command is not.
        auto_offset_reset="earliest",
        fetch_max_wait_ms=EMBEDDED_FETCH_WAIT_MS if cluster.embedded else FETCH_WAIT_MS,
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


_links: dict[tuple[int, Path, KafkaSettings], KafkaLink] = {}
_links_lock = threading.Lock()


def link_for(settings: Settings) -> KafkaLink:
    """The link of this process to the cluster of `settings`, started at the first call."""
    # A forked child inherits the object but not its thread: it needs a link of its own.
    key = (os.getpid(), settings.home_dir, settings.kafka)
    with _links_lock:
        link = _links.get(key)
        if link is None:
            link = _links[key] = KafkaLink(settings)
        return link


@atexit.register
def close_links() -> None:
    """Shut down this process's links. Called at its end; runs that go on get a new one."""
    with _links_lock:
        own = [key for key in _links if key[0] == os.getpid()]
        links = [_links.pop(key) for key in own]
    for link in links:
        link.shut_down()
