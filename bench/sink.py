"""How fast carbon records get into DuckDB: decoded, stored, and both as the sink runs them.

    python bench/sink.py [--records 1000000] [--batch 122880] [--runs 20000] [--labels] [--json]

Records are what the worker writes, spread over 8 partitions. Kafka is left out. Wall times depend
on what else the machine does; the processor time per record (`cpu`) less so.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from marlin.sinks.batch import Applied, Batch
from marlin.sinks.conformance import NOON, TOPICS, Recorded, carbon, identity
from marlin.sinks.decode import decode
from marlin.sinks.duckdb_sink import DuckDBSink

PARTITIONS = 8
T = TypeVar("T")


@dataclass
class Timing:
    """Time of one step over the records that went through it."""

    step: str
    records: int
    wall_us: float
    """Wall time per record [µs]."""
    cpu_us: float
    """Processor time per record [µs]."""

    @property
    def per_second(self) -> float:
        return 1e6 / self.wall_us


def timed(step: str, records: int, work: Callable[[], T]) -> tuple[T, Timing]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = work()
    wall_us = (time.perf_counter() - wall_s) / records * 1e6
    cpu_us = (time.process_time() - cpu_s) / records * 1e6
    return result, Timing(step, records, wall_us, cpu_us)


def chunks(first: int, count: int, options: argparse.Namespace) -> list[list[Recorded]]:
    """`count` records after the `first`, by partition."""
    chance = random.Random(first)
    per_partition = count // PARTITIONS
    labels = {"team": "search", "stage": "live"} if options.labels else None
    templates = [
        carbon(
            0,
            partition=partition,
            event_id="EVENT",
            run_id="RUN",
            labels=labels,
            energy_wh=chance.random(),
            carbon_g=chance.random(),
            water_ml=chance.random(),
        )
        for partition in range(PARTITIONS)
    ]
    made: list[list[Recorded]] = []
    for partition, template in enumerate(templates):
        start = first // PARTITIONS
        values = [
            (template.value or b"")
            .replace(b'-0",', b'-%d",' % offset, 1)
            .replace(b"EVENT", b"%032x" % chance.getrandbits(128))
            .replace(b"RUN", b"run-%d-%d" % (partition, chance.randrange(options.runs)))
            for offset in range(start, start + per_partition)
        ]
        made.append(
            [
                Recorded(TOPICS.carbon, partition, start + index, value)
                for index, value in enumerate(values)
            ]
        )
    return made


def batches(options: argparse.Namespace) -> Iterator[list[list[Recorded]]]:
    size = options.batch // PARTITIONS * PARTITIONS
    for first in range(0, options.records, size):
        yield chunks(first, size, options)


def one_by_one(options: argparse.Namespace, sink: DuckDBSink) -> list[Timing]:
    """Decode and store each batch, timed apart. Making the records is not timed."""
    timings: list[Timing] = []
    for read in batches(options):
        count = sum(map(len, read))
        batch, decoding = timed("decode", count, lambda read=read: decode(read, TOPICS, NOON))
        _, storing = timed("store", count, lambda batch=batch: sink.apply(batch))
        timings += [decoding, storing]
    return [mean(step, timings) for step in ("decode", "store")]


def mean(step: str, timings: list[Timing]) -> Timing:
    of_step = [timing for timing in timings if timing.step == step]
    records = sum(timing.records for timing in of_step)
    return Timing(
        step,
        records,
        sum(timing.wall_us * timing.records for timing in of_step) / records,
        sum(timing.cpu_us * timing.records for timing in of_step) / records,
    )


def as_the_sink_runs(options: argparse.Namespace, sink: DuckDBSink) -> Timing:
    """One batch is decoded while the one before is stored; with the final checkpoint."""
    everything = list(batches(options))
    count = sum(len(part) for read in everything for part in read)

    def work() -> None:
        storing: Future[Applied] | None = None
        with ThreadPoolExecutor(1) as pool:
            for read in everything:
                batch: Batch = decode(read, TOPICS, NOON)
                if storing:
                    storing.result()
                storing = pool.submit(sink.apply, batch)
            if storing:
                storing.result()
        sink.close()

    return timed("sink", count, work)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=122_880)
    parser.add_argument("--runs", type=int, default=20_000, help="runs of each partition")
    parser.add_argument("--labels", action="store_true", help="every record has labels")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with DuckDBSink(Path(folder) / "apart.duckdb") as sink:
            sink.bind(identity(partitions=PARTITIONS))
            timings = one_by_one(options, sink)
        sink = DuckDBSink(Path(folder) / "together.duckdb")
        sink.bind(identity(partitions=PARTITIONS))
        timings.append(as_the_sink_runs(options, sink))
        size = (Path(folder) / "together.duckdb").stat().st_size / timings[-1].records
    if options.json:
        print(json.dumps({"steps": [asdict(timing) for timing in timings], "bytes": size}))
        return
    for timing in timings:
        print(
            f"{timing.step:8} {timing.per_second:10,.0f} records/s   wall {timing.wall_us:5.2f} µs"
            f"   cpu {timing.cpu_us:5.2f} µs"
        )
    print(f"on disk  {size:10,.0f} bytes a record")


if __name__ == "__main__":
    main()
