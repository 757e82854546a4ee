"""`python -m chaos`: a trial by hand, as long as you like."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path

from brokers.apache import ApacheKafka
from brokers.embedded import embedded_broker

from chaos.mayhem import Broker
from chaos.trial import Trial, run_trial
from marlin.settings import KafkaSettings, Settings, SinkSettings, WorkerSettings


def main() -> int:
    """Run the trials asked for; 0 when none of them found a difference."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--broker", choices=["apache", "embedded"], default="apache")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--events-per-s", type=float, default=400.0)
    parser.add_argument("--no-sink", action="store_true", help="without the DuckDB sink")
    parser.add_argument("--no-broker-kills", action="store_true")
    options = parser.parse_args()
    failed = False
    for seed in options.seeds:
        seconds = options.minutes * 60
        trial = Trial(
            seed=seed,
            seconds=seconds,
            runs=options.runs,
            calls=int(seconds * options.events_per_s),
            sink=not options.no_sink,
        )
        failed |= not _run(trial, options.broker, broker_kills=not options.no_broker_kills)
    return int(failed)


def _run(trial: Trial, kind: str, *, broker_kills: bool) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="marlin-chaos-"))
    broker: Broker | None = None
    with ExitStack() as stack:
        if kind == "apache":
            (folder / "kafka").mkdir()
            kafka = ApacheKafka(folder / "kafka")
            kafka.start()
            stack.callback(kafka.stop)
            bootstrap = kafka.bootstrap_servers
            broker = kafka if broker_kills else None
        else:
            # In memory: a restarted broker has forgotten everything, so it is not restarted.
            bootstrap = stack.enter_context(embedded_broker(folder / "broker.log"))
        settings = Settings(
            home=folder / "home",
            kafka=KafkaSettings(
                bootstrap_servers=bootstrap,
                topic_prefix=f"chaos-{uuid.uuid4().hex[:8]}.",
                partitions=4,
            ),
            worker=WorkerSettings(session_timeout_s=6.0, commit_interval_s=0.5),
            sink=SinkSettings(flush_interval_s=0.05),
        )
        report = asyncio.run(run_trial(trial, settings, folder, broker=broker))
    print(f"{kind}: {report}", flush=True)
    for difference in report.differences:
        print(f"  {difference}")
    print(f"  logs: {folder}")
    return not report.differences


if __name__ == "__main__":
    sys.exit(main())
