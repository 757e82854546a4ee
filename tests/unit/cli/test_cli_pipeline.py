"""The supervisor of the whole pipeline, as far as it goes without starting one."""

from __future__ import annotations

from pathlib import Path

import pytest

from marlin.broker.running import announced
from marlin.cli.pipeline import Pipeline, only_one
from marlin.errors import ConfigurationError
from marlin.settings import KafkaSettings, Settings


def test_a_second_one_in_the_same_home_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with only_one(tmp_path, "up"), announced(tmp_path, "127.0.0.1:9092"):  # noqa: SIM117
        with pytest.raises(ConfigurationError, match=r"already runs in .*Kafka 127\.0\.0\.1:9092"):
            with only_one(tmp_path, "up"):
                pytest.fail("two at once")


def test_homes_are_independent_and_free_again_afterwards(tmp_path: Path) -> None:
    with only_one(tmp_path / "a", "up"), only_one(tmp_path / "b", "demo"):
        pass
    with only_one(tmp_path / "a", "demo"):
        pass


async def test_a_configured_cluster_is_used_instead_of_the_embedded_broker(tmp_path: Path) -> None:
    kafka = KafkaSettings(bootstrap_servers="kafka:9092")
    async with Pipeline(Settings(home=tmp_path, kafka=kafka), say=pytest.fail) as pipeline:
        assert not pipeline.embedded
        assert pipeline.bootstrap_servers == "kafka:9092"

    async with Pipeline(Settings(home=tmp_path), say=pytest.fail) as pipeline:
        assert pipeline.embedded
        assert pipeline.bootstrap_servers == ""
