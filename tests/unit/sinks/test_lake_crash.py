"""A sink on a lake that is killed in the middle of a transaction."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marlin.settings import SinkSettings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.lake.sink import DuckLakeSink

KILLED = """
import sys, time
from marlin.settings import SinkSettings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.lake.sink import DuckLakeSink

sink = DuckLakeSink(SinkSettings(lake_catalog=sys.argv[1], lake_data_path=sys.argv[2]))
sink.bind(identity())
sink.apply(batch_of(*map(carbon, range(600))))

def stuck(*arguments):
    print("stuck", flush=True)
    time.sleep(600)

owner = sink._positions if sys.argv[3] == "store" else sink
setattr(owner, sys.argv[3], stuck)
sink.apply(batch_of(*map(carbon, range(599, 1800))))
"""


@pytest.mark.parametrize("step", ["store", "_add_usages", "_add_refusals"])
def test_a_kill_in_mid_transaction_leaves_the_batches_before(tmp_path: Path, step: str) -> None:
    settings = SinkSettings(
        lake_catalog=f"sqlite:{tmp_path / 'catalog.sqlite'}", lake_data_path=str(tmp_path / "data")
    )
    arguments = [settings.lake_catalog or "", settings.lake_data_path or "", step]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == "stuck\n"
        with DuckLakeSink(settings) as sink, sink.cursor() as cursor:  # nobody is locked out
            assert cursor.execute("SELECT calls FROM runs").fetchall() == [(600,)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with DuckLakeSink(settings) as sink:
        assert list(sink.bind(identity()).values()) == [600]
        assert sink.apply(batch_of(*map(carbon, range(599, 1800)))).events == 1200
        with sink.cursor() as cursor:
            assert cursor.execute(
                "SELECT (SELECT count(*) FROM events), calls, input_tokens FROM runs"
            ).fetchall() == [(1800, 1800, 180_000)]
