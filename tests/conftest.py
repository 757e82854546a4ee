"""Fixtures of every test: brokers, and settings that belong to one test alone.

A test that asks for `broker` (or `settings`) runs twice: on the embedded broker, and, marked
`kafka`, on Apache Kafka. `pytest -m "not kafka"` runs the former, `pytest -m kafka` the latter.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest
from brokers import RunningBroker
from brokers.apache import ApacheKafka, ApacheKafkaError, missing_tools
from brokers.embedded import embedded_broker
from hypothesis import settings as hypothesis_settings
from lake_servers import Postgres, S3Store, postgres_server, s3_server

from marlin.settings import KafkaSettings, Settings, SinkSettings, WorkerSettings

# No test may fail for the machine being busy; the first example also builds a contract's validator.
hypothesis_settings.register_profile("marlin", deadline=None)
hypothesis_settings.load_profile("marlin")


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark what needs Apache Kafka without going through `broker`."""
    for item in items:
        if "apache_kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Keep the developer's own Marlin settings and `~/.marlin` out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.upper().startswith(("MARLIN_", "MESHFLOW_")):
                patch.delenv(name)
        patch.setenv("MARLIN_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def embedded_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """`host:port` of the session's embedded broker."""
    with embedded_broker(tmp_path_factory.mktemp("embedded") / "broker.log") as address:
        yield address


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[ApacheKafka]:
    """The session's Apache Kafka node. A test that stops or kills it starts it again."""
    reason = missing_tools()
    if reason is None:
        try:
            kafka = ApacheKafka(tmp_path_factory.mktemp("apache"))
        except ApacheKafkaError as exc:
            reason = str(exc)
        else:
            kafka.start()
            yield kafka
            kafka.stop()
            return
    if os.environ.get("CI"):
        pytest.fail(f"in CI the Apache Kafka tests must run: {reason}")
    pytest.skip(f"no Apache Kafka: {reason}")


@pytest.fixture(
    scope="session", params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)]
)
def broker(request: pytest.FixtureRequest) -> RunningBroker:
    """A running broker, shared by the session: use names of your own (`settings` does)."""
    if request.param == "apache":
        kafka: ApacheKafka = request.getfixturevalue("apache_kafka")
        return RunningBroker(kafka.bootstrap_servers, "apache")
    return RunningBroker(request.getfixturevalue("embedded_bootstrap"), "embedded")


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """The session's PostgreSQL. `new_database` gives a test a catalogue of its own."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_store(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3Store]:
    """The session's S3 server with one bucket. `new_path` gives a test a place of its own."""
    with s3_server(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def settings(broker: RunningBroker, tmp_path: Path) -> Settings:
    """Settings of one test: the broker, topics and a home of its own, short intervals."""
    return settings_for(broker.bootstrap_servers, tmp_path)


@pytest.fixture
def apache_settings(apache_kafka: ApacheKafka, tmp_path: Path) -> Settings:
    """As `settings`, on Apache Kafka only."""
    return settings_for(apache_kafka.bootstrap_servers, tmp_path)


def settings_for(bootstrap_servers: str, home: Path) -> Settings:
    """Settings on that cluster with a topic prefix nobody else has."""
    return Settings(
        home=home,
        kafka=KafkaSettings(
            bootstrap_servers=bootstrap_servers,
            topic_prefix=f"test-{uuid.uuid4().hex[:12]}.",
            partitions=3,
            request_timeout_s=20.0,
        ),
        worker=WorkerSettings(commit_interval_s=0.2, session_timeout_s=6.0),
        sink=SinkSettings(flush_interval_s=0.05),
    )
