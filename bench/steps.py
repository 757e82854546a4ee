"""Where the worker's time goes: processor time of each step per event, best of many rounds.

    python bench/steps.py [--batch 5000] [--rounds 20]

Batches of one partition of eight, 1,000 live runs, 4 agents a run; no broker. The steps call what
the worker and its Kafka client call. What the full job takes beyond their sum is the event loop,
requests to the broker and their copies, commits and Faust. Prints JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, TypeVar

import orjson
from aiokafka import ConsumerRecord, TopicPartition
from trace_events import Fleet
from traffic import BATCH_BYTES, by_partition

from marlin.estimation import default_estimator
from marlin.streams.app import MAX_RECORD_BATCH_BYTES
from marlin.streams.decode import decode_batch
from marlin.streams.partition import Partition

# The client's own parts, which it publishes no types for.
BatchBuilder: Any = import_module("aiokafka.producer.message_accumulator").BatchBuilder
PartitionRecords: Any = import_module("aiokafka.consumer.fetcher").PartitionRecords
MemoryRecords: Any = import_module("aiokafka.record.memory_records").MemoryRecords

PARTITIONS = 8
MAX_EVENT_BYTES = 256 * 1024
NOW = datetime(2026, 3, 1, tzinfo=UTC)

Record = ConsumerRecord[bytes, bytes]
T = TypeVar("T")


def batched(rows: Sequence[tuple[bytes, bytes | None]], size_bytes: int) -> list[bytes]:
    """Record batches as they go over the wire, built as the producer builds them."""
    done: list[bytes] = []
    batch = BatchBuilder(size_bytes, 0, is_transactional=False)
    for key, value in rows:
        if batch.append(timestamp=None, key=key, value=value) is None:
            done.append(bytes(batch._build()))
            batch = BatchBuilder(size_bytes, 0, is_transactional=False)
            batch.append(timestamp=None, key=key, value=value)
    done.append(bytes(batch._build()))
    return done


def unpacked(buffers: list[bytes]) -> list[Record]:
    """The consumer's records of a fetch answer."""
    found: list[Record] = []
    for buffer in buffers:
        part = PartitionRecords(
            TopicPartition("events", 0), MemoryRecords(buffer), [], 0, None, None, True, 0
        )
        found += part
    return found


class Steps:
    """Each step over one batch after the other."""

    def __init__(self, size: int, rounds: int) -> None:
        # A quarter more than its share, since partitions are never even.
        events = Fleet(runs=1000).take((rounds + 1) * size * PARTITIONS * 5 // 4)
        mine = by_partition(events, PARTITIONS)[0]
        self.batches = [mine[n * size : (n + 1) * size] for n in range(rounds + 1)]
        self.partition = Partition("marlin.events.v1", 0, estimator=default_estimator())
        self.best: dict[str, float] = {}
        for number, batch in enumerate(self.batches):
            self._one(batch, number * size)
            if not number:
                self.best.clear()  # runs and coefficients are new in the first batch

    def _one(self, batch: list[tuple[bytes, bytes]], first: int) -> None:
        count = len(batch)
        wire = batched(batch, BATCH_BYTES)
        records = self._timed("consume", count, lambda: unpacked(wire))
        # Offsets go on from batch to batch, as in a log.
        records = [
            ConsumerRecord(
                *(record.topic, record.partition, first + place, record.timestamp),
                *(record.timestamp_type, record.key, record.value, record.checksum),
                *(record.serialized_key_size, record.serialized_value_size, record.headers),
            )
            for place, record in enumerate(records)
        ]
        self._timed("orjson", count, lambda: [orjson.loads(record.value) for record in records])
        self._timed("decode", count, lambda: decode_batch(records, max_event_bytes=MAX_EVENT_BYTES))
        outcome = self._timed(
            "apply",
            count,
            lambda: self.partition.apply(records, now=NOW, max_event_bytes=MAX_EVENT_BYTES),
        )
        if len(outcome.carbon) != count:
            raise AssertionError(f"{len(outcome.carbon)} carbon records of {count} events")
        self._timed("carbon", count, lambda: batched(outcome.carbon, MAX_RECORD_BATCH_BYTES))
        self._timed("rows", count, lambda: batched(outcome.rows, MAX_RECORD_BATCH_BYTES))

    def _timed(self, step: str, count: int, work: Callable[[], T]) -> T:
        gc.collect()
        began = time.process_time()
        result = work()
        took_us = (time.process_time() - began) / count * 1e6
        self.best[step] = min(took_us, self.best.get(step, took_us))
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    best = Steps(options.batch, options.rounds).best
    steps = {
        "Kafka's record batches to consumer records": best["consume"],
        "decode and validate": best["decode"],
        "estimate, totals, budget, carbon record, changed rows": best["apply"] - best["decode"],
        "carbon records into record batches": best["carbon"],
        "changed rows into record batches": best["rows"],
    }
    total = sum(steps.values())
    compared = {"for comparison: orjson.loads alone": best["orjson"]}
    print(json.dumps({"batch": options.batch, "us": steps, "sum_us": total, **compared}))


if __name__ == "__main__":
    main()
