"""The job on Quix Streams: a stateful `apply` on its RocksDB store with its changelog topic.

    .venv-bench/bin/python bench/peer_quix.py '{"bootstrap": …, "source": …, "out": …, …}'

Ends after `count` events with a last checkpoint, so that all of its state's cost is measured.
State is stored as packed bytes, which is cheaper than the store's own JSON; commits are at the
default five seconds, and the clients batch as its documentation advises.
"""

from __future__ import annotations

import json
import sys
from struct import Struct

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


# Run and agent are kept apart, packed: the whole row as JSON would take twice the time.
run_state = Struct("<3q12dd?")
agent_state = Struct("<3q12d")


def meter(value, key, timestamp, headers, state):
    """One event."""
    event = decode(value)
    row = new_row()
    kept = state.get_bytes("run")
    if kept is not None:
        *row["t"], budget_g, row["breached"] = run_state.unpack(kept)
        row["budget_g"] = None if budget_g < 0 else budget_g
    agent_id = getattr(event, "agent_id", None)
    if agent_id is not None:
        kept = state.get_bytes(agent_id)
        if kept is not None:
            row["a"][agent_id] = agent_state.unpack(kept)
    # Quix tells neither partition nor offset here; the output has a position like Marlin's.
    record = handle(row, event, value, spec["position"])
    budget_g = -1.0 if row["budget_g"] is None else row["budget_g"]
    state.set_bytes("run", run_state.pack(*row["t"], budget_g, row["breached"]))
    if agent_id is not None:
        state.set_bytes(agent_id, agent_state.pack(*row["a"][agent_id]))
    return record


app.dataframe(events).apply(meter, stateful=True, metadata=True).to_topic(carbon)

if __name__ == "__main__":
    app.run(count=spec["count"])
