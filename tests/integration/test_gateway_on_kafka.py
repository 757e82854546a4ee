"""The gateway with a broker behind it: what is accepted is on the events topic, once."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
from command_line import COMMAND
from conftest import settings_for
from events import started, usage
from http_gateway import free_port
from pipeline import eventually, read_all

from marlin.broker.embedded import EmbeddedBroker
from marlin.broker.running import announced
from marlin.runtime.producer import partition_of
from marlin.schemas import EVENT, Event, Usage, dump
from marlin.settings import GatewaySettings, KafkaSettings, Settings
from marlin.topics import Topics
from marlin.web.gateway import run_gateway

TIMEOUT_S = 5.0


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncGenerator[httpx.AsyncClient]:
    """A gateway in this process; yields a client of it."""
    own = GatewaySettings(port=free_port(), request_timeout_s=TIMEOUT_S)
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(
        run_gateway(settings.model_copy(update={"gateway": own}), stop=stop, ready=ready)
    )
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{own.port}", timeout=60) as client:
            yield client
    finally:
        stop.set()
        await running


async def post(client: httpx.AsyncClient, events: list[Event]) -> int:
    answer = await client.post(
        "/v1/events",
        content=b"\n".join(map(dump, events)),
        headers={"content-type": "application/x-ndjson"},
    )
    return answer.status_code


async def test_accepted_events_are_on_the_topic_once_keyed_and_in_order(settings: Settings) -> None:
    runs = [f"run-{n}-räksmörgås" for n in range(7)]
    batches: list[list[Event]] = [
        [started(run), *(usage(run, seq) for seq in range(100))] for run in runs
    ]
    async with gateway(settings) as client:
        assert (await client.get("/readyz")).status_code == 200
        # Some alone, the others at the same time.
        assert [await post(client, batch) for batch in batches[:2]] == [202, 202]
        answers = await asyncio.gather(*(post(client, batch) for batch in batches[2:]))
        assert answers == [202] * 5
        refused = await client.post("/v1/events", json=[{"type": "usage"}])
        assert refused.status_code == 422

        # Read while the gateway runs: 202 means that they are there, not that they will be.
        records = await read_all(settings, Topics(settings.kafka.topic_prefix).events)

    found: dict[str, list[Event]] = {}
    for record in records:
        event = EVENT.validate_json(record.value or b"")
        assert record.key == event.run_id.encode()
        assert record.partition == partition_of(event.run_id, settings.kafka.partitions)
        found.setdefault(event.run_id, []).append(event)
    assert found == dict(zip(runs, batches, strict=True))


async def test_litellms_records_are_on_the_topic_as_usage_and_alike_when_sent_again(
    settings: Settings,
) -> None:
    payload = {
        "id": "chatcmpl-1",
        "trace_id": "run-7",
        "call_type": "acompletion",
        "status": "success",
        "custom_llm_provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "startTime": 1_769_000_000.0,
        "endTime": 1_769_000_003.5,
        "metadata": {"usage_object": {"prompt_tokens": 1000, "completion_tokens": 200}},
    }
    async with gateway(settings) as client:
        answers = [await client.post("/v1/litellm", json=[payload]) for _ in range(2)]
        records = await read_all(settings, Topics(settings.kafka.topic_prefix).events)

    assert [answer.status_code for answer in answers] == [202, 202]
    assert [record.key for record in records] == [b"run-7"] * 2
    first, second = (EVENT.validate_json(record.value or b"") for record in records)
    # The pipeline drops the second, by producer and number.
    assert first == second
    assert isinstance(first, Usage)
    assert (first.event_id, first.seq) == ("chatcmpl-1", 0)
    assert (first.input_tokens, first.output_tokens) == (1000, 200)


async def test_with_the_broker_gone_requests_are_refused(tmp_path: Path) -> None:
    async with EmbeddedBroker(log=tmp_path / "broker.log") as broker:
        settings = settings_for(broker.bootstrap_servers, tmp_path)
        async with gateway(settings) as client:
            before = await post(client, [usage()])
            await broker.stop()
            answer = await client.post("/v1/events", json=usage(seq=1).model_dump(mode="json"))
            readiness = await client.get("/readyz")
            health = await client.get("/healthz")

    assert before == 202
    assert answer.status_code == readiness.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert health.status_code == 200


async def test_it_serves_when_kafka_comes_and_when_it_comes_back_elsewhere(tmp_path: Path) -> None:
    kafka = KafkaSettings(partitions=3, request_timeout_s=TIMEOUT_S)
    settings = Settings(home=tmp_path, kafka=kafka)
    events: list[Event] = [started(), usage()]

    async with AsyncExitStack() as stack:
        # Announced, as `marlin up` does, and not there.
        with announced(tmp_path, "127.0.0.1:1"):
            client = await stack.enter_async_context(gateway(settings))
            assert await post(client, events) == 503
        for life in range(2):
            async with EmbeddedBroker(log=tmp_path / f"broker-{life}.log") as broker:
                with announced(tmp_path, broker.bootstrap_servers):

                    async def accepted() -> bool:
                        return await post(client, events) == 202

                    await eventually(accepted)
                    topic = Topics(settings.kafka.topic_prefix).events
                    records = await read_all(settings, topic)
            assert [EVENT.validate_json(one.value or b"") for one in records][-2:] == events


def test_the_command_says_when_it_is_ready_and_stops_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "gateway", "--port", str(port)],
        env={
            **os.environ,
            "MARLIN_HOME": str(tmp_path),
            "MARLIN_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        said = process.stdout.readline()
        health = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60)
        process.terminate()
        rest, _ = process.communicate(timeout=60)

    assert said == f"gateway on http://127.0.0.1:{port} ready\n"
    assert health.status_code == 200
    assert (rest, process.returncode) == ("", 0)
