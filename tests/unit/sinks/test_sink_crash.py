"""A process that is killed in the middle of a transaction."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.database import DatabaseLockedError
from marlin.sinks.duckdb_sink import DuckDBSink

KILLED = """
import sys, time
from pathlib import Path
from marlin.sinks import duckdb_sink, merge
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink

sink = DuckDBSink(Path(sys.argv[1]))
sink.bind(identity())
sink.apply(batch_of(carbon(0), carbon(1)))
step = getattr(DuckDBSink, sys.argv[2], None)

def stuck(*arguments):
    print("stuck", flush=True)
    time.sleep(600)

if step is None:
    sink._positions.store = stuck
else:
    setattr(sink, sys.argv[2], stuck)
sink.apply(batch_of(carbon(1), carbon(2), carbon(3)))
"""


@pytest.mark.parametrize("step", ["_add_usages", "_add_facts", "_check_same_events", "store"])
def test_a_kill_in_mid_transaction_leaves_the_batches_before(tmp_path: Path, step: str) -> None:
    path = tmp_path / "marlin.duckdb"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), step], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == "stuck\n"
        with pytest.raises(DatabaseLockedError) as refused:
            DuckDBSink(path)
        assert refused.value.pid == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
    with DuckDBSink(path) as sink:
        assert list(sink.bind(identity()).values()) == [2]
        assert sink.apply(batch_of(carbon(1), carbon(2), carbon(3))).events == 2
        with sink.cursor() as cursor:
            assert cursor.execute(
                "SELECT (SELECT count(*) FROM events), sum(calls), sum(input_tokens) FROM runs"
            ).fetchall() == [(4, 4, 400)]
