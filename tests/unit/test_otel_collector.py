"""deploy/otel-collector.yaml: what the Collector writes is what the worker reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from marlin.normalise import otel
from marlin.settings import KafkaSettings, OtelSettings, Settings

CONFIG: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "deploy" / "otel-collector.yaml").read_text()
)
KAFKA: dict[str, Any] = CONFIG["exporters"]["kafka"]

# Of the exporter's README, github.com/open-telemetry/opentelemetry-collector-contrib.
KNOWN = {
    "": {
        *("brokers", "protocol_version", "client_id", "traces", "record_headers", "tls", "auth"),
        *("partition_traces_by_id", "retry_on_failure", "sending_queue", "producer", "timeout"),
    },
    "traces": {"topic", "encoding", "topic_from_metadata_key", "message_key_from_metadata_key"},
    "retry_on_failure": {"enabled", "initial_interval", "max_interval", "max_elapsed_time"},
    "sending_queue": {"enabled", "num_consumers", "queue_size"},
    "producer": {
        *("max_message_bytes", "required_acks", "compression", "compression_params"),
        *("flush_max_messages", "allow_auto_topic_creation", "linger"),
    },
}


def deleted(attribute: str) -> bool:
    """Whether the Collector takes the attribute off its spans."""
    statements = CONFIG["processors"]["transform/no_content"]["trace_statements"]
    patterns = [
        re.search(r'^delete_matching_keys\(span\.attributes, "(.*)"\)$', one) for one in statements
    ]
    assert all(patterns)
    return any(
        re.match(pattern[1].replace("\\\\", "\\"), attribute) for pattern in patterns if pattern
    )


def test_every_component_that_a_pipeline_names_is_configured_and_used() -> None:
    (pipeline,) = CONFIG["service"]["pipelines"].values()

    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(CONFIG[kind])
    assert pipeline["exporters"] == ["kafka"]
    assert pipeline["processors"][-1] == "batch"


def test_the_exporter_has_no_setting_that_does_not_exist() -> None:
    assert KAFKA.keys() <= KNOWN[""]
    for group in ("traces", "retry_on_failure", "sending_queue", "producer"):
        assert KAFKA[group].keys() <= KNOWN[group], group


def test_it_writes_what_the_worker_reads() -> None:
    assert [KAFKA["traces"]["topic"]] == list(OtelSettings().topics)
    assert KAFKA["traces"]["encoding"] in ("otlp_proto", "otlp_json")
    assert KAFKA["brokers"] == ["${env:MARLIN_KAFKA:-127.0.0.1:9092}"]


def test_no_span_is_lost_or_too_large() -> None:
    assert KAFKA["producer"]["required_acks"] == -1
    assert KAFKA["retry_on_failure"] == {"enabled": True, "max_elapsed_time": "0s"}
    # A refused export fits the dead-letter topic.
    assert KAFKA["producer"]["max_message_bytes"] <= KafkaSettings().max_message_bytes
    assert KAFKA["producer"]["compression"] in ("none", "gzip")


def test_a_whole_trace_goes_to_one_partition() -> None:
    assert KAFKA["partition_traces_by_id"] is True


@pytest.mark.parametrize(
    "attribute",
    [
        *("gen_ai.prompt.0.content", "gen_ai.completion.0.content", "gen_ai.system_instructions"),
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.call.arguments"),
        *("llm.input_messages.0.message.content", "input.value", "traceloop.entity.output"),
    ],
)
def test_what_was_said_is_taken_off(attribute: str) -> None:
    assert deleted(attribute)


def test_what_metering_reads_is_kept() -> None:
    source = Path(otel.__file__).read_text()
    read = set(re.findall(r'"((?:gen_ai|llm|ai)\.[\w.]+)"', source))

    assert len(read) > 40
    assert [name for name in read if deleted(name)] == []
    for name in (*OtelSettings().run_id_attributes, "gen_ai.operation.name", "gen_ai.agent.name"):
        assert not deleted(name)


def test_it_is_off_unless_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Settings().otel.enabled
    monkeypatch.setenv("MARLIN_OTEL__ENABLED", "true")
    monkeypatch.setenv("MARLIN_OTEL__TOPICS", '["spans"]')
    assert Settings().otel == OtelSettings(enabled=True, topics=("spans",))
