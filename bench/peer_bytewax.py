"""The job on Bytewax: a stateful step on its in-memory state, snapshots to its recovery store.

    .venv-bench/bin/python bench/peer_bytewax.py '{"bootstrap": …, "source": …, "out": …, …}'

Runs until it is ended. Bytewax has no changelog topic: its state is written to SQLite at the end
of every epoch, ten seconds as by default.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

from bytewax import operators as op
from bytewax._bytewax import cli_main
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from job import decode, handle, new_row

spec = json.loads(sys.argv[1])


def meter(row, message):
    """One event."""
    row = row or new_row()
    value = message.value
    source = f"{message.topic}-{message.partition}-{message.offset}"
    record = handle(row, decode(value), value, source)
    return row, KafkaSinkMessage(message.key, record)


flow = Dataflow("bench")
source = KafkaSource(
    [spec["bootstrap"]],
    [spec["source"]],
    add_config={"fetch.wait.max.ms": "20"},
)
stream = op.input("events", flow, source)
keyed = op.key_on("run", stream, lambda message: message.key.decode())
derived = op.stateful_map("meter", keyed, meter)
records = op.map("records", derived, lambda pair: pair[1])
sink = KafkaSink([spec["bootstrap"]], spec["out"], {"linger.ms": "20"})
op.output("carbon", records, sink)

if __name__ == "__main__":
    folder = Path(spec["folder"]) / "recovery"
    folder.mkdir(parents=True)
    init_db_dir(folder, 1)
    cli_main(
        flow,
        workers_per_process=1,
        epoch_interval=timedelta(seconds=10),
        recovery_config=RecoveryConfig(str(folder)),
    )
