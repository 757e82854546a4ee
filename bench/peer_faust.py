"""The job on stock Faust: its agent, its table with its changelog, its channel's `send`.

    .venv-bench/bin/python bench/peer_faust.py '{"bootstrap": …, "source": …, "out": …, …}'

Runs until it is ended. Settings are those Faust's documentation gives for throughput: the
in-memory store, uvloop, orjson, a lingering producer, no web server, no leader topic.
"""

from __future__ import annotations

import json
import sys

from mode.loop import use

use("uvloop")

import faust  # noqa: E402  after the loop is chosen
from job import decode, handle, new_row  # noqa: E402

spec = json.loads(sys.argv[1])
app = faust.App(
    spec["group"],
    broker=f"kafka://{spec['bootstrap']}",
    store="memory://",
    datadir=spec["folder"],
    topic_partitions=spec["partitions"],
    topic_replication_factor=1,
    topic_allow_declare=spec["declare"],
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    producer_linger=0.02,
    producer_max_batch_size=256 * 1024,
    stream_wait_empty=False,
    recovery_consistency_check=False,
    broker_session_timeout=6,
    broker_heartbeat_interval=1,
    broker_rebalance_timeout=6,
    web_enabled=False,
)
events = app.topic(spec["source"], key_serializer="raw", value_serializer="raw", key_type=bytes)
carbon = app.topic(spec["out"], key_serializer="raw", value_serializer="raw")
runs = app.Table("runs", partitions=spec["partitions"])  # JSON by orjson


@app.agent(events)
async def meter(stream):
    """One event after the other, as Faust has it."""
    async for event in stream.events():
        value = event.value
        usage = decode(value)
        message = event.message
        row = runs.get(usage.run_id) or new_row()
        source = f"{message.topic}-{message.partition}-{message.offset}"
        await carbon.send(
            key=message.key, value=handle(row, usage, value, source), partition=message.partition
        )
        runs[usage.run_id] = row


if __name__ == "__main__":
    faust.Worker(app, loglevel="warning").execute_from_commandline()
