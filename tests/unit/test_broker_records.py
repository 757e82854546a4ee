"""Records as aiokafka's compiled reader has them: the same records, and only where asked for."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from importlib.metadata import version
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from marlin.broker import records

PLACE = TopicPartition("events", 3)

# What `marlin.broker.records` builds on, by the digest of its source. A new aiokafka that changes
# any of it fails here: read the change, adapt the module, then update the digest.
RELIED_ON = [
    (records._PartitionRecords.__base__, "94aa0da0dbec8d1b"),  # pyright: ignore[reportPrivateUsage]
    (fetcher.FetchResult, "d7db13f06de8248c"),
]


def fetched(key_deserializer: Any) -> list[Any]:
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000)
    for offset, key, value in ((0, b"a", b"1"), (1, None, b"2"), (2, b"c", None)):
        batch.append(offset, 1000 + offset, key, value, [("h", b"x")])
    found = fetcher.PartitionRecords(
        PLACE, MemoryRecords(bytes(batch.build())), [], 1, key_deserializer, None, True, 0
    )
    return list(found)


def _upper(key: bytes | None) -> bytes | None:
    return key and key.upper()


def test_they_are_the_same_records_from_the_fetched_offset_on() -> None:
    plain: Any
    for plain, quick in zip(fetched(None), fetched(records.as_is), strict=True):
        assert type(plain) is ConsumerRecord is not type(quick)
        for name in ("offset", "timestamp", "timestamp_type", "key", "value", "checksum"):
            assert getattr(quick, name) == getattr(plain, name)
        assert tuple(quick.headers) == tuple(plain.headers)


def test_other_consumers_are_left_alone() -> None:
    assert [record.key for record in fetched(_upper)] == [None, b"C"]
    assert all(isinstance(record, ConsumerRecord) for record in fetched(None))


@pytest.mark.parametrize(("relied_on", "digest"), RELIED_ON, ids=lambda part: str(part)[:60])
def test_aiokafka_is_what_this_was_written_for(relied_on: Any, digest: str) -> None:
    source = textwrap.dedent(inspect.getsource(relied_on)).encode()

    assert hashlib.sha256(source).hexdigest()[:16] == digest, (
        f"aiokafka {version('aiokafka')} changed {relied_on.__qualname__}"
    )
