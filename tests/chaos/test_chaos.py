"""The short form of chaos: a minute of kills on each broker, and not one event out of place."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import RunningBroker

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
