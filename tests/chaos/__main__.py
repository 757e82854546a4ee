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
from lake_fleet import on_lake
from lake_servers import postgres_server, s3_server

from chaos.mayhem import Broker
from chaos.trial import Trial, run_trial
from marlin.settings import KafkaSettings, Settings, SinkSettings, WorkerSettings

SINKS_OF_A_LAKE = 2


def main() -> int:
    """Run the trials asked for; 0 when none of them found a difference."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--broker", choices=["apache", "embedded"], default="apache")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--events-per-s", type=float, default=400.0)
    parser.add_argument("--no-sink", action="store_true", help="without a sink")
    parser.add_argument(
        "--lake", action="store_true", help="several sinks on a DuckLake in PostgreSQL and S3"
    )
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
            sinks=0 if options.no_sink else SINKS_OF_A_LAKE if options.lake else 1,
        )
        kills = not options.no_broker_kills
        failed |= not _run(trial, options.broker, broker_kills=kills, lake=options.lake)
    return int(failed)


def _run(trial: Trial, kind: str, *, broker_kills: bool, lake: bool) -> bool:
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
        if lake:
            postgres = stack.enter_context(postgres_server())
            store = stack.enter_context(s3_server(folder / "s3"))
            settings = on_lake(settings, postgres, store)
        report = asyncio.run(run_trial(trial, settings, folder, broker=broker))
    print(f"{kind}: {report}", flush=True)
    for difference in report.differences:
        print(f"  {difference}")
    print(f"  logs: {folder}")
    return not report.differences


if __name__ == "__main__":
    sys.exit(main())
