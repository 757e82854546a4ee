"""The job on Quix Streams: a stateful `apply` on its RocksDB store with its changelog topic.

    .venv-bench/bin/python bench/peer_quix.py '{"bootstrap": …, "source": …, "out": …, …}'

Ends after `count` events with a last checkpoint, so that all of its state's cost is measured.
State is stored as bytes by orjson, which is cheaper than the store's own JSON; commits are at the
default five seconds, and the clients batch as its documentation advises.
"""

from __future__ import annotations

import json
import sys

import orjson
from job import decode, handle, new_row
from quixstreams import Application

spec = json.loads(sys.argv[1])
app = Application(
    spec["bootstrap"],
    consumer_group=spec["group"],
    auto_offset_reset="earliest",
    state_dir=spec["folder"],
    consumer_extra_config={
        "fetch.wait.max.ms": 20,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 1000,
    },
    producer_extra_config={"linger.ms": 20, "batch.size": 256 * 1024},
    loglevel="WARNING",
)
events = app.topic(spec["source"], key_deserializer="bytes", value_deserializer="bytes")
carbon = app.topic(spec["out"], key_serializer="bytes", value_serializer="bytes")
for topic in (events, carbon):
    # The embedded broker does not tell what Quix derives its changelog's settings from.
    topic.broker_config.extra_config.setdefault("retention.ms", "-1")
    topic.broker_config.extra_config.setdefault("retention.bytes", "-1")


def meter(value, key, timestamp, headers, state):
    """One event."""
    kept = state.get_bytes("row")
    row = new_row() if kept is None else orjson.loads(kept)
    # Quix tells neither partition nor offset here; the output has them from Marlin's worker.
    record = handle(row, decode(value), value, spec["position"])
    state.set_bytes("row", orjson.dumps(row))
    return record


app.dataframe(events).apply(meter, stateful=True, metadata=True).to_topic(carbon)

if __name__ == "__main__":
    app.run(count=spec["count"])
