"""The short form of chaos: a minute of kills on each broker, and not one event out of place."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import RunningBroker
from conftest import settings_for
from lake_fleet import on_lake
from lake_servers import Postgres, S3Store

from chaos.mayhem import Broker
from chaos.trial import Trial, run_trial
from marlin.settings import Settings


@pytest.mark.timeout(600)
async def test_a_minute_of_kills_leaves_every_account_exact(
    request: pytest.FixtureRequest, broker: RunningBroker, settings: Settings, tmp_path: Path
) -> None:
    # The embedded broker forgets everything when it is killed, so only Apache Kafka is.
    mortal: Broker | None = None
    if broker.kind == "apache":
        mortal = request.getfixturevalue("apache_kafka")
    trial = Trial(seed=20260301, seconds=60, runs=120, calls=20_000)

    report = await run_trial(trial, settings, tmp_path, broker=mortal)

    print(report)
    assert report.differences == []
    assert report.kills >= 10


@pytest.mark.timeout(600)
async def test_sinks_of_a_lake_are_killed_and_every_account_is_exact(
    embedded_bootstrap: str, postgres: Postgres, s3_store: S3Store, tmp_path: Path
) -> None:
    settings = on_lake(settings_for(embedded_bootstrap, tmp_path), postgres, s3_store)
    trial = Trial(seed=20260302, seconds=25, runs=60, calls=6000, sinks=2)

    report = await run_trial(trial, settings, tmp_path)

    print(report)
    assert report.differences == []
    assert report.crashes == []
    assert report.kills >= 3
