"""The batching transport: chunks, acknowledged prefixes, epochs, and the contract with Faust."""

# What is tested here is how internals fit together.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import AsyncGenerator
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from faust.tables.recovery import Recovery
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from marlin.broker.cluster import Cluster
from marlin.estimation import default_estimator
from marlin.settings import KafkaSettings, Settings, WorkerSettings
from marlin.streams.app import create_app
from marlin.streams.transport import Batch, Consumer, Transport

P0, P1 = TP("marlin.events.v1", 0), TP("marlin.events.v1", 1)

# What the transport builds on, by the digest of its source. A new Faust that changes any of it
# fails here; read the change, adapt the transport, run the kill tests, then update the digest.
RELIED_ON = [
    (base.Consumer.getmany, "e486c434b7928ee8"),
    (base.Consumer._wait_next_records, "ba40cd3671328d3b"),
    (base.Consumer._drain_messages, "8f35dd7a11144daa"),
    (base.Consumer.ack, "5548cf0f75843f73"),
    (base.Consumer.wait_empty, "53195dca246c0a86"),
    (base.Consumer._commit_tps, "b83d551c32787010"),
    (base.Consumer._filter_committable_offsets, "4fb75ba687d078b9"),
    (base.Consumer._commit_offsets, "86b3e9b0aec773ac"),
    (base.Consumer.perform_seek, "2b4ceebd23deb7ee"),
    (base.Consumer.seek, "7c61d5bd222aef82"),
    (base.Consumer.stop_flow, "aa77389dc23a1981"),
    (base.Consumer.resume_flow, "192f20bc377f5fec"),
    (base.Consumer.on_partitions_revoked, "652177e770ee66d6"),
    (base.ThreadDelegateConsumer, "a1b934b198fae1c0"),
    (driver.Consumer, "959f899e8ebfdd56"),
    (driver.AIOKafkaConsumerThread._create_worker_consumer, "c179c0bdb9755c3a"),
    (Recovery, "a652ef029484ee3a"),
]


@pytest.mark.parametrize(("relied_on", "digest"), RELIED_ON, ids=lambda part: str(part)[:60])
def test_faust_is_what_the_transport_was_written_for(relied_on: Any, digest: str) -> None:
    source = textwrap.dedent(inspect.getsource(relied_on)).encode()

    assert hashlib.sha256(source).hexdigest()[:16] == digest, (
        f"faust-streaming {version('faust-streaming')} changed {relied_on.__qualname__}"
    )


def test_faust_finds_the_transport_by_its_entry_point() -> None:
    (found,) = entry_points(group="faust.transports", name="marlin")

    assert found.load() is Transport


@pytest.fixture
async def consumer(tmp_path: Path) -> AsyncGenerator[Consumer]:
    settings = Settings(home=tmp_path, worker=WorkerSettings(batch_records=3))
    cluster = Cluster("127.0.0.1:1", "test", KafkaSettings())
    app = create_app(settings, cluster, partitions=2, estimator=default_estimator())
    app.topics.acking_topics.add(P0.topic)
    assert isinstance(app.consumer, Consumer)
    yield app.consumer
    await app.publisher.stop()
    # Its thread was never started, so nothing else closes the thread's loop.
    app.consumer._thread.thread_loop.close()


def records(tp: TP, offsets: range) -> list[ConsumerRecord[bytes | None, bytes | None]]:
    return [ConsumerRecord(*tp, n, 0, 0, b"k", b"v", None, 1, 1, ()) for n in offsets]


def deliver(consumer: Consumer, tp: TP, offsets: range) -> Any:
    return consumer._batch_message(tp, Batch(records(tp, offsets), 0))


async def test_records_are_cut_into_batches_and_partitions_take_turns(consumer: Consumer) -> None:
    fetched = {P0: records(P0, range(10, 17)), P1: records(P1, range(2)), TP("empty", 0): []}

    chunks = [(tp, [r.offset for r in chunk]) for tp, chunk in consumer._chunks(fetched)]

    assert chunks == [
        (P0, [10, 11, 12]),
        (P1, [0, 1]),
        (P0, [13, 14, 15]),
        (P0, [16]),
    ]


async def test_a_message_has_the_offset_of_its_last_record(consumer: Consumer) -> None:
    message = deliver(consumer, P0, range(4, 7))

    assert message.offset == 6
    assert [record.offset for record in message.value.records] == [4, 5, 6]


async def test_only_the_acknowledged_prefix_is_committed(consumer: Consumer) -> None:
    first, second, third = (deliver(consumer, P0, range(n, n + 3)) for n in (0, 3, 6))

    assert consumer.ack(second)
    assert consumer._new_offset(P0) is None
    assert consumer.ack(first)
    assert not consumer.ack(first)
    assert consumer._new_offset(P0) == 6
    assert consumer._new_offset(P0) is None
    consumer.ack(third)
    assert consumer._new_offset(P0) == 9


async def test_partitions_are_committed_apart(consumer: Consumer) -> None:
    deliver(consumer, P0, range(3))
    consumer.ack(deliver(consumer, P1, range(5)))

    assert set(consumer._filter_tps_with_pending_acks({P1})) == {P1}
    assert (consumer._new_offset(P0), consumer._new_offset(P1)) == (None, 5)


async def test_what_was_delivered_before_a_seek_is_never_committed(consumer: Consumer) -> None:
    old = deliver(consumer, P0, range(3))
    epoch = consumer._epoch

    consumer._forget([P0])
    new = deliver(consumer, P0, range(1))

    assert consumer._epoch > epoch
    consumer.ack(old)
    assert consumer._new_offset(P0) is None
    consumer.ack(new)
    assert consumer._new_offset(P0) == 1


async def test_a_rebalance_starts_a_new_epoch(consumer: Consumer) -> None:
    epochs = [consumer._epoch]
    consumer.stop_flow()
    epochs.append(consumer._epoch)
    consumer.resume_flow()
    epochs.append(consumer._epoch)

    assert epochs == sorted(set(epochs))


async def test_changelog_batches_are_not_waited_for(consumer: Consumer) -> None:
    changelog = TP("marlin.runs.v1-changelog", 0)

    deliver(consumer, changelog, range(3))

    assert list(consumer._filter_tps_with_pending_acks()) == []


async def test_faust_may_look_at_a_partition_that_has_no_position_yet(consumer: Consumer) -> None:
    thread = consumer._thread
    kafka = thread._create_worker_consumer(thread.transport)
    thread._consumer = kafka
    thread.verify_event_path(1.0, P0)  # nothing is assigned

    kafka._subscription.subscribe(topics={P0.topic})
    kafka._subscription.assign_from_subscribed({TopicPartition(*P0)})
    state = kafka._subscription.subscription.assignment.state_value(TopicPartition(*P0))
    state.timestamp = 1000  # a fetch was asked for

    assert not state.has_valid_position
    thread.verify_event_path(1.0, P0)
    await kafka.stop()


async def test_a_thread_that_faust_forgets_does_not_keep_the_process(consumer: Consumer) -> None:
    assert consumer._thread.Worker(consumer._thread).daemon
