"""LiteLLM's records to events: over HTTP, twice, in bad company, and hostile."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from http_gateway import MemoryLog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from marlin.schemas import Usage
from marlin.settings import GatewaySettings
from marlin.streams.sequence import SequenceWindow
from marlin.web.gateway import gateway_app
from marlin.web.ingest import MAX_LISTED, BadEvent, Refusal
from marlin.web.litellm import Records, read_records

SAMPLES = Path(__file__).parents[3] / "../shared/samples"
TOKEN = "a token of sixteen characters"


def payload(number: int = 0, run: str = "run-1", **changes: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "litellm_call_id": f"call-{number}",
        "session_id": run,
        "call_type": "acompletion",
        "status": "success",
        "custom_llm_provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "startTime": 1_769_000_000.0,
        "endTime": 1_769_000_003.5 + number,
        "metadata": {
            "usage_object": {
                "prompt_tokens": 2255,
                "completion_tokens": 120,
                "cache_read_input_tokens": 512,
                "cache_creation_input_tokens": 1733,
                "completion_tokens_details": {"reasoning_tokens": 70},
            }
        },
    } | changes


def read(*payloads: object) -> Records:
    answer = read_records(json.dumps(payloads).encode(), max_records=1000)
    assert isinstance(answer, Records)
    return answer


def test_an_array_lines_and_one_record_are_read_alike() -> None:
    one, two = payload(0), payload(1)
    array = read_records(json.dumps([one, two]).encode(), max_records=9)
    lines = read_records(f"{json.dumps(one)}\r\n\n{json.dumps(two)}".encode(), max_records=9)
    alone = read_records(json.dumps(one).encode(), max_records=9)

    assert isinstance(array, Records)
    assert isinstance(alone, Records)
    assert array == lines
    assert [event.event_id for event in array.events] == ["chatcmpl-0", "chatcmpl-1"]
    assert [event.event_id for event in alone.events] == ["chatcmpl-0"]
    (event,) = alone.events
    assert (
        event.input_tokens,
        event.cache_read_tokens,
        event.cache_write_tokens,
        event.output_tokens,
        event.reasoning_tokens,
    ) == (10, 512, 1733, 120, 70)


def counted(*bodies: list[dict[str, Any]]) -> list[str]:
    """The events that the pipeline counts, once each producer's repeats are dropped."""
    windows: dict[tuple[str, str], SequenceWindow] = {}
    kept: list[str] = []
    for body in bodies:
        for event in read(*body).events:
            window = windows.setdefault((event.run_id, event.producer_id), SequenceWindow())
            if window.accept(event.seq):
                kept.append(event.event_id)
    assert not any(window.gaps for window in windows.values())
    return kept


def test_a_batch_that_is_sent_again_counts_once_and_leaves_no_gaps() -> None:
    batch = [payload(number, run=f"run-{number % 3}") for number in range(30)]

    once = counted(batch)

    assert sorted(once) == sorted(one["id"] for one in batch)
    assert counted(batch, batch, batch) == once
    assert len({event.producer_id for event in read(*batch).events}) == 3


def test_other_records_of_the_same_runs_count_too() -> None:
    first = [payload(number) for number in range(4)]
    second = [payload(number) for number in range(4, 9)]

    assert len(counted(first, second, first)) == 9
    assert counted([payload(0)], [payload(0)], [payload(1)]) == ["chatcmpl-0", "chatcmpl-1"]


def test_a_record_that_a_batch_repeats_counts_once_and_failed_attempts_each() -> None:
    broken = [
        payload(id="call-7", litellm_call_id="call-7", status="failure", endTime=1_769_000_003 + n)
        for n in range(2)
    ]

    assert len(read(payload(1), payload(1)).events) == 1
    assert [event.usage_quality for event in read(*broken).events] == ["partial"] * 2


def test_good_records_are_taken_and_bad_ones_named() -> None:
    bad_tokens = payload(1)
    bad_tokens["metadata"]["usage_object"]["prompt_tokens"] = -1

    found = read(
        payload(0),
        bad_tokens,
        "a string",
        payload(2, run="r" * 257),
        payload(3, cache_hit=True),
        payload(4),
    )

    assert [(event.event_id, event.seq) for event in found.events] == [
        ("chatcmpl-0", 0),
        ("chatcmpl-4", 1),
    ]
    assert (found.skipped, found.refused) == (1, 3)
    assert found.bad_events[0].index == 1
    assert "prompt_tokens is -1" in found.bad_events[0].reason
    assert found.bad_events[1:] == (
        BadEvent(2, None, "a JSON object is expected"),
        BadEvent(3, "run_id", "String should have at most 256 characters"),
    )


def test_a_line_that_is_no_json_is_one_bad_record() -> None:
    body = f"{json.dumps(payload(0))}\n{{\n{json.dumps(payload(1))}\n".encode()

    found = read_records(body, max_records=9)

    assert isinstance(found, Records)
    assert [event.event_id for event in found.events] == ["chatcmpl-0", "chatcmpl-1"]
    assert found.bad_events == (BadEvent(1, None, "a JSON object is expected"),)


def test_half_an_emoji_in_an_answer_does_not_spoil_the_batch() -> None:
    found = read(payload(0, response="\ud83d"), payload(1, run="\ud83d"))

    assert [event.event_id for event in found.events] == ["chatcmpl-0"]
    assert [bad.field for bad in found.bad_events] == ["run_id"]


def test_only_the_first_bad_records_are_listed() -> None:
    found = read(*[payload(number, endTime=None) for number in range(50)])

    assert (found.refused, len(found.bad_events)) == (50, MAX_LISTED)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\n\n", 400),
        (b"nonsense", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b"9" * 5000, 400),
        (b"[" + b"{}," * 1000 + b"{}]", 413),
        (b"{}\n" * 1001, 413),
    ],
)
def test_a_body_without_records_or_with_too_many_is_refused(body: bytes, status: int) -> None:
    answer = read_records(body, max_records=1000)

    assert isinstance(answer, Refusal)
    assert answer.status == status


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    answer = read_records(body, max_records=1000)

    assert isinstance(answer, Refusal) or answer.events == []


@given(st.dictionaries(st.sampled_from(sorted(payload())), st.none() | st.text() | st.integers()))
def test_any_change_of_a_record_is_read_skipped_or_named(changes: dict[str, Any]) -> None:
    found = read(payload() | changes)

    assert len(found.events) + found.skipped + found.refused == 1


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def client(log: MemoryLog) -> AsyncGenerator[httpx.AsyncClient]:
    settings = GatewaySettings(token=SecretStr(TOKEN), max_batch_events=5)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(gateway_app(settings, log)),
        base_url="http://gateway",
        headers={"authorization": f"Bearer {TOKEN}"},
    ) as found:
        yield found


async def test_records_are_published(client: httpx.AsyncClient, log: MemoryLog) -> None:
    answer = await client.post("/v1/litellm", json=[payload(0), payload(1, cache_hit=True)])

    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "skipped": 1})
    assert [event.run_id for event in log.events] == ["run-1"]


async def test_bad_ones_are_told_to_the_sender_and_logged(
    client: httpx.AsyncClient, log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "marlin.web"):
        answer = await client.post("/v1/litellm", json=[payload(0), payload(1, endTime=None)])

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["detail"].startswith("1 events were sent; 1 records are bad and were dropped")
    assert problem["errors"] == [
        {
            "index": 1,
            "field": None,
            "reason": "endTime is None, expected a Unix time in seconds",
        }
    ]
    assert len(log.events) == 1
    assert "1 of LiteLLM's records refused" in caplog.text


async def test_without_kafka_litellm_is_told_to_retry(
    client: httpx.AsyncClient, log: MemoryLog
) -> None:
    log.away = True
    refused = await client.post("/v1/litellm", json=[payload(0)])
    log.away = False
    again = await client.post("/v1/litellm", json=[payload(0)])

    assert (refused.status_code, again.status_code) == (503, 202)
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"headers": {"authorization": "Bearer wrong"}}, 401),
        ({"headers": {"content-type": "text/plain"}}, 415),
        ({"headers": {"content-encoding": "gzip"}}, 415),
        ({"content": b"nonsense"}, 400),
        ({"content": b"[{},{},{},{},{},{}]"}, 413),
        ({"method": "GET"}, 405),
        ({"url": "/v1/litellm/"}, 404),
    ],
)
async def test_requests_are_refused_as_elsewhere(
    client: httpx.AsyncClient, log: MemoryLog, changes: dict[str, Any], status: int
) -> None:
    headers = {"content-type": "application/json"} | changes.pop("headers", {})
    request: dict[str, Any] = {"method": "POST", "url": "/v1/litellm", "content": b"[]"}

    answer = await client.request(**request | changes, headers=headers)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert log.events == []


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples beside this checkout")
async def test_the_sample_is_accepted(client: httpx.AsyncClient, log: MemoryLog) -> None:
    sample = (SAMPLES / "litellm_standard_logging_payload.json").read_bytes()

    answer = await client.post(
        "/v1/litellm", content=sample, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 202
    (event,) = log.events
    assert isinstance(event, Usage)
    assert (event.run_id, event.agent_id) == ("run-7f3a", "agent-researcher")
