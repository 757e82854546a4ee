"""docker-compose.kafka.yml and the Dockerfile: true to the topics, the releases, the commands."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers.apache import POM
from http_gateway import served
from pydantic import SecretStr, ValidationError

from marlin.broker.cluster import DEAD_LETTER_HEADROOM_BYTES, GRID_COMPACTION_LAG_MS
from marlin.settings import GatewaySettings, KafkaSettings
from marlin.topics import Topics

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.kafka.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TOPICS_TOOL = "/opt/kafka/bin/kafka-topics.sh"


def kafka_settings() -> dict[str, str]:
    """The broker's settings, named as in server.properties."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in SERVICES["kafka"]["environment"].items()
        if name.startswith("KAFKA_")
    }


def created_topics(tmp_path: Path, partitions: str) -> dict[str, list[str]]:
    """Runs the script of the `topics` service with a tool that only notes its arguments."""
    tool = tmp_path / "kafka-topics.sh"
    calls = tmp_path / "calls"
    tool.write_text(f'#!/bin/bash\nprintf "%s\\t" "$@" >> {calls}\necho >> {calls}\n')
    tool.chmod(0o755)
    service = SERVICES["topics"]
    (script,) = service["command"]
    assert TOPICS_TOOL in script
    # Compose reads $$ as one $.
    script = script.replace("$$", "$").replace(TOPICS_TOOL, str(tool))
    subprocess.run(
        [*service["entrypoint"], script], env={"PARTITIONS": partitions}, check=True, timeout=60
    )
    topics: dict[str, list[str]] = {}
    for line in calls.read_text().splitlines():
        arguments = line.rstrip("\t").split("\t")
        topics[arguments[arguments.index("--topic") + 1]] = arguments
    return topics


def configs_of(arguments: list[str]) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == "--config"]


def value_of(arguments: list[str], option: str) -> str | None:
    return arguments[arguments.index(option) + 1] if option in arguments else None


def test_the_topics_are_those_that_marlin_creates(tmp_path: Path) -> None:
    kafka, topics = KafkaSettings(), Topics()
    created = created_topics(tmp_path, "8")

    assert tuple(created) == topics.all()
    assert {topic: configs_of(arguments) for topic, arguments in created.items()} == {
        topics.events: [f"max.message.bytes={kafka.max_message_bytes}"],
        topics.carbon: [],
        topics.commands: [],
        topics.deadletter: [
            f"max.message.bytes={kafka.max_message_bytes + DEAD_LETTER_HEADROOM_BYTES}"
        ],
        topics.runs: ["cleanup.policy=compact"],
        topics.grid: [
            "cleanup.policy=compact",
            "message.timestamp.type=LogAppendTime",
            f"min.compaction.lag.ms={GRID_COMPACTION_LAG_MS}",
        ],
    }
    for arguments in created.values():
        assert value_of(arguments, "--replication-factor") == "1"
        assert "--if-not-exists" in arguments
        assert value_of(arguments, "--bootstrap-server") == "kafka:19092"


def test_the_topics_have_as_many_partitions_as_the_setting_says(tmp_path: Path) -> None:
    created = created_topics(tmp_path, "5")

    counts = {topic: value_of(arguments, "--partitions") for topic, arguments in created.items()}
    assert counts == {**dict.fromkeys(Topics().by_run(), "5"), Topics().grid: "1"}
    default = KafkaSettings().partitions
    assert SERVICES["topics"]["environment"] == {
        "PARTITIONS": f"${{MARLIN_KAFKA__PARTITIONS:-{default}}}"
    }


def test_creating_topics_fails_when_one_cannot_be_created(tmp_path: Path) -> None:
    (script,) = SERVICES["topics"]["command"]
    failing = script.replace("$$", "$").replace(TOPICS_TOOL, "false")

    done = subprocess.run([*SERVICES["topics"]["entrypoint"], failing], env={"PARTITIONS": "8"})

    assert done.returncode != 0


def test_compose_and_tests_run_the_same_kafka() -> None:
    namespace = {"m": "http://maven.apache.org/POM/4.0.0"}
    version = ElementTree.parse(POM).findtext("m:properties/m:kafka.version", None, namespace)

    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"
    assert SERVICES["topics"]["image"] == SERVICES["kafka"]["image"]


def test_one_kraft_node_that_creates_no_topics_by_itself() -> None:
    settings = kafka_settings()

    assert settings["process.roles"] == "broker,controller"
    assert settings["controller.quorum.voters"].startswith(f"{settings['node.id']}@kafka:")
    assert settings["auto.create.topics.enable"] == "false"
    listeners = {part.partition(":")[0] for part in settings["listeners"].split(",")}
    protocols = settings["listener.security.protocol.map"].split(",")
    assert {protocol.partition(":")[0] for protocol in protocols} == listeners
    assert settings["inter.broker.listener.name"] in listeners
    assert settings["controller.listener.names"] in listeners
    for name in (
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
    ):
        assert settings[name] == "1"


def test_the_broker_is_reachable_from_this_machine_only() -> None:
    (port,) = SERVICES["kafka"]["ports"]

    assert port == "127.0.0.1:9092:9092"
    assert "HOST://127.0.0.1:9092" in kafka_settings()["advertised.listeners"]


def test_nothing_connects_before_the_broker_is_healthy_and_has_topics() -> None:
    assert SERVICES["kafka"]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for name in ("worker", "sink", "gateway"):
        assert SERVICES[name]["depends_on"] == {
            "kafka": {"condition": "service_healthy"},
            "topics": {"condition": "service_completed_successfully"},
        }
        assert SERVICES[name]["profiles"] == [name]
        bootstrap = SERVICES[name]["environment"]["MARLIN_KAFKA__BOOTSTRAP_SERVERS"]
        assert f"INTERNAL://{bootstrap}" in kafka_settings()["advertised.listeners"]
    assert not any("profiles" in SERVICES[name] for name in ("kafka", "topics"))


def test_what_is_kept_is_in_volumes() -> None:
    assert COMPOSE["volumes"].keys() == {"kafka", "duckdb"}
    assert SERVICES["kafka"]["volumes"] == [f"kafka:{kafka_settings()['log.dirs']}"]
    assert SERVICES["sink"]["volumes"] == ["duckdb:/data"]
    assert "MARLIN_HOME=/data" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["worker", "sink"])
def test_services_write_the_file_that_the_health_check_looks_for(name: str) -> None:
    command = SERVICES[name]["command"]
    ready = command[command.index("--ready-file") + 1]

    health_check = (ROOT / "Dockerfile").read_text().partition("HEALTHCHECK")[2]

    assert command[0] == name
    assert f'CMD ["test", "-f", "{ready}"]' in health_check


def test_the_gateway_is_reached_by_others_with_a_token_only() -> None:
    gateway, settings = SERVICES["gateway"], GatewaySettings()

    assert gateway["command"] == ["gateway", "--host", "0.0.0.0"]
    assert gateway["ports"] == [f"{settings.port}:{settings.port}"]
    # `:?` would fail every command on the file, also for who wants only Kafka.
    assert gateway["environment"]["MARLIN_GATEWAY__TOKEN"] == "${MARLIN_GATEWAY__TOKEN:-}"
    with pytest.raises(ValidationError, match="at least 16 characters"):
        GatewaySettings(token=SecretStr(""))


async def test_the_gateways_health_check_sees_whether_it_lives() -> None:
    settings = GatewaySettings()
    address = f"http://127.0.0.1:{settings.port}"
    runner, _, script = SERVICES["gateway"]["healthcheck"]["test"][1:]
    assert runner == "python"

    async def check(script: str) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait()

    assert f'"{address}/healthz"' in script
    async with served(settings) as url:
        assert await check(script.replace(address, url)) == 0
    assert await check(script.replace(address, url)) != 0


def test_the_image_is_built_from_locks_and_does_not_run_as_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    final = dockerfile.rpartition("\nFROM ")[2]

    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["python:3.12-slim"] * 2
    assert dockerfile.count("--require-hashes") == 3
    assert re.search(r"^USER marlin$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["marlin"]' in final


def test_everything_that_the_image_copies_is_let_through() -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }

    needed = {"pyproject.toml", "requirements", "requirements.lock", "README.md", "LICENSE"}
    assert needed | {"marlin", "schemas", "sinks", "streams"} == allowed
    for name in allowed:
        assert (ROOT / name).exists()
