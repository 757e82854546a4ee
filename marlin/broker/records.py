"""Kafka records as aiokafka's compiled reader has them, without a Python object around each.

aiokafka builds a `ConsumerRecord` per record, in Python; that is a third of what reading costs.
A consumer given `key_deserializer=as_is` gets the reader's own records instead: they have
`offset`, `timestamp`, `timestamp_type`, `key`, `value`, `headers` and `checksum`; topic and
partition are known to whoever asked. A contract test fails when aiokafka changes what this
replaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher

__all__ = ["as_is"]


def as_is(key: bytes | None) -> bytes | None:
    """Given as `key_deserializer`: asks for the compiled reader's records."""
    return key


class _PartitionRecords(fetcher.PartitionRecords):
    def __iter__(self) -> Iterator[Any]:
        # Not through `__next__`, a Python call per record.
        iterator: Iterator[Any] = self._records_iterator
        return iterator

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return record if self._key_deserializer is as_is else super()._consumer_record(tp, record)


fetcher.PartitionRecords = _PartitionRecords  # type: ignore[misc]
