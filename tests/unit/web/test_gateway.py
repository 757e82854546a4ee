"""The gateway's answers: what is accepted, what is refused and how, and never a 500."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import hypothesis
import orjson
import pytest
from events import started, usage
from http_gateway import MemoryLog, free_port, served
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pydantic import SecretStr

from marlin.errors import ConfigurationError
from marlin.schemas import EVENT, dump
from marlin.settings import GatewaySettings, KafkaSettings, Settings
from marlin.web.gateway import gateway_app, run_gateway

ROOT = Path(__file__).parents[3]
TOKEN = "a token of sixteen characters or möre"
LIMITS = GatewaySettings(max_body_bytes=4096, max_batch_events=5)
JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
USAGE = dump(usage())

ENDLESS_MB = 100
"""More than sockets buffer [MiB]."""

# How long an example takes depends on what else the machine does.
PATIENT = hypothesis.settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def client(log: MemoryLog) -> AsyncGenerator[httpx.AsyncClient]:
    async with connected(LIMITS, log) as found:
        yield found


def connected(settings: GatewaySettings, log: MemoryLog) -> httpx.AsyncClient:
    """A client of the application; an exception in it reaches the test."""
    transport = httpx.ASGITransport(gateway_app(settings, log))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """The problem details; fails if the answer is not one."""
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    return problem


async def test_events_are_accepted_in_their_order(
    client: httpx.AsyncClient, log: MemoryLog
) -> None:
    events = [started(), usage(seq=0), usage(seq=1)]
    lines = b"\n".join(map(dump, events))

    one = await client.post("/v1/events", content=USAGE, headers=JSON)
    array = await client.post(
        "/v1/events", content=b"[" + lines.replace(b"\n", b",") + b"]", headers=JSON
    )
    several = await client.post("/v1/events", content=lines, headers=LINES)
    none = await client.post("/v1/events", content=b"[]", headers=JSON)

    assert [answer.status_code for answer in (one, array, several, none)] == [202] * 4
    assert [answer.json() for answer in (one, array, several, none)] == [
        {"accepted": n} for n in (1, 3, 3, 0)
    ]
    assert log.events == [usage(), *events, *events]


async def test_one_bad_event_and_nothing_is_sent(client: httpx.AsyncClient, log: MemoryLog) -> None:
    bad = orjson.loads(USAGE) | {"input_tokens": -1}

    answer = await client.post("/v1/events", json=[orjson.loads(USAGE), bad])

    assert answer.status_code == 422
    assert problem_of(answer)["errors"] == [
        {
            "index": 1,
            "field": "input_tokens",
            "reason": "Input should be greater than or equal to 0",
        }
    ]
    assert log.events == []


async def test_without_kafka_the_sender_is_told_to_come_back(
    client: httpx.AsyncClient, log: MemoryLog
) -> None:
    log.away = True

    answers = [
        await client.post("/v1/events", content=USAGE, headers=JSON),
        await client.get("/readyz"),
    ]

    for answer in answers:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        problem_of(answer)
    assert (await client.get("/healthz")).status_code == 200
    log.away = False
    assert (await client.get("/readyz")).status_code == 200


# What is sent, and the status it must get: method, path, headers, body.
HOSTILE: list[tuple[int, str, str, dict[str, str], bytes]] = [
    (404, "POST", "/", JSON, USAGE),
    (404, "POST", "/v1/events/", JSON, USAGE),
    (404, "POST", "/v1/events/..", JSON, USAGE),
    (404, "POST", "/v1/%65vents/x", JSON, USAGE),
    (404, "GET", "/v1/events%00", JSON, b""),
    (404, "GET", "/v1", JSON, b""),
    *((405, method, "/v1/events", JSON, USAGE) for method in ("GET", "PUT", "DELETE", "PATCH")),
    *((405, method, "/v1/events", JSON, b"") for method in ("HEAD", "OPTIONS", "TRACE", "BREW")),
    (405, "POST", "/healthz", JSON, USAGE),
    (405, "POST", "/readyz", JSON, USAGE),
    (415, "POST", "/v1/events", {}, USAGE),
    *(
        (415, "POST", "/v1/events", {"content-type": kind}, USAGE)
        for kind in ("", "text/plain", "json", "application/x-www-form-urlencoded", "multipart/")
    ),
    (415, "POST", "/v1/events", {"content-type": "application/cloudevents+json"}, USAGE),
    (415, "POST", "/v1/events", JSON | {"content-encoding": "gzip"}, b"\x1f\x8b\x08"),
    (415, "POST", "/v1/events", JSON | {"content-encoding": "identity, br"}, USAGE),
    (413, "POST", "/v1/events", JSON, b" " * 4097),
    (413, "POST", "/v1/events", LINES, b"\n" * 4097),
    (413, "POST", "/v1/events", JSON, b"[{},{},{},{},{},{}]"),
    (413, "POST", "/v1/events", LINES, b"\n".join([USAGE] * 6)),
    *(
        (400, "POST", "/v1/events", JSON, body)
        for body in (b"", b"\x00", b"\xff", b"{", b"[", b"}{", b"[" * 4096, b'{"a":' * 800)
    ),
    (400, "POST", "/v1/events", JSON, b"\n".join([USAGE] * 2)),
    (400, "POST", "/v1/events", JSON, USAGE.decode().encode("utf-16")),
    (400, "POST", "/v1/events", JSON, USAGE.replace(b"writer", b"\xe4")),
    (400, "POST", "/v1/events", JSON, USAGE.replace(b"writer", b"\\ud83c")),
    (400, "POST", "/v1/events", JSON, USAGE.replace(b"1000", b"1e999")),
    (400, "POST", "/v1/events", JSON, USAGE.replace(b"1000", b"NaN")),
    (400, "POST", "/v1/events", LINES, b"[\n" + USAGE + b"\n]"),
    *(
        (422, "POST", "/v1/events", LINES, body)
        for body in (b"[]", b"{}", b"0", b"[" + USAGE + b"]")
    ),
    *(
        (422, "POST", "/v1/events", JSON, body)
        for body in (b"{}", b"0", b"null", b'""', b"[[]]", b"[null]", b"[" * 200 + b"]" * 200)
    ),
    *(
        (422, "POST", "/v1/events", JSON, USAGE.replace(old, new))
        for old, new in (
            (b'"usage"', b'"__proto__"'),
            (b'"usage"', b'{"type": "usage"}'),
            (b'"usage"', b'"carbon"'),
            (b'"run-1"', b'""'),
            (b'"run-1"', b"1"),
            (b'"run-1"', b'"' + b"r" * 257 + b'"'),
            (b'"run-1"', b"null"),
            (b"1000", b"-1"),
            (b"1000", b"1e3"),
            (b"1000", b"9" * 300),
            (b"1000", b"100000001"),
            (b'"seq":0', b'"seq":-1'),
            (b'"seq":0', b'"seq":9007199254740993'),
            (b'"seq":0', b'"seq":true'),
            (b"2026-03-01", b"2026-02-30"),
            (b"2026-03-01", b"0000-00-00"),
            (b'"seq"', b'"__class__"'),
            (b'"seq":0', b'"seq":0,"labels":{"":"x"}'),
            (b'"seq":0', b'"seq":0,"cost_usd":-1'),
        )
    ),
]


@pytest.mark.parametrize(("status", "method", "path", "headers", "body"), HOSTILE)
async def test_hostile_requests_get_the_right_refusal(
    client: httpx.AsyncClient,
    log: MemoryLog,
    status: int,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
) -> None:
    answer = await client.request(method, path, headers=headers, content=body)

    assert answer.status_code == status
    if method != "HEAD":
        problem_of(answer)
    if status == 405:
        assert "POST" in answer.headers["allow"] or "GET" in answer.headers["allow"]
    assert log.events == []


@PATIENT
@given(
    body=st.binary(max_size=200),
    content_type=st.sampled_from([*JSON.values(), *LINES.values(), "application/jsonl"]),
)
async def test_no_bytes_at_all_make_it_fail(body: bytes, content_type: str) -> None:
    log = MemoryLog()
    async with connected(LIMITS, log) as client:
        answer = await client.post(
            "/v1/events", content=body, headers={"content-type": content_type}
        )

    assert answer.status_code in {202, 400, 413, 422}
    assert log.events == []


@PATIENT
@given(
    st.dictionaries(
        st.sampled_from(["authorization", "content-type", "content-encoding", "content-length"]),
        st.binary(max_size=40),
    )
)
async def test_no_headers_at_all_make_it_fail(headers: dict[str, bytes]) -> None:
    log = MemoryLog()
    settings = GatewaySettings(token=SecretStr(TOKEN))
    async with connected(settings, log) as client:
        answer = await client.post(
            "/v1/events",
            content=USAGE,
            headers=[(name.encode(), value) for name, value in headers.items()],
        )

    assert answer.status_code == 401
    assert log.events == []


@pytest.mark.parametrize(
    "given_token",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Basic " + TOKEN.encode(),
        TOKEN.encode(),
        b"Bearer " + TOKEN.encode()[:-1],
        b"Bearer " + TOKEN.encode() + b"x",
        b"Bearer " + TOKEN.upper().encode(),
        b"Bearer " + TOKEN.encode("utf-16"),
        b"Bearer \xff\xfe",
    ],
)
async def test_a_wrong_token_is_refused_before_anything_else(
    log: MemoryLog, given_token: bytes | None
) -> None:
    headers = {} if given_token is None else {b"authorization": given_token}
    async with connected(GatewaySettings(token=SecretStr(TOKEN)), log) as client:
        answer = await client.post("/v1/events", content=b"nonsense", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in problem_of(answer)["detail"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_token_opens_and_health_needs_none(log: MemoryLog, scheme: str) -> None:
    headers = {b"authorization": f"{scheme} {TOKEN}".encode(), b"content-type": b"application/json"}
    async with connected(GatewaySettings(token=SecretStr(TOKEN)), log) as client:
        answer = await client.post("/v1/events", content=USAGE, headers=headers)
        health = [(await client.get(path)).status_code for path in ("/healthz", "/readyz")]

    assert (answer.status_code, health) == (202, [200, 200])
    assert log.events == [usage()]


async def test_the_largest_body_is_taken_and_one_byte_more_is_not(
    client: httpx.AsyncClient, log: MemoryLog
) -> None:
    answers = [
        await client.post("/v1/events", content=USAGE.ljust(size), headers=JSON)
        for size in (4096, 4097)
    ]

    assert [answer.status_code for answer in answers] == [202, 413]
    assert log.events == [usage()]


@pytest.mark.parametrize(
    ("settings", "path", "status"),
    [
        (LIMITS, "/v1/events", 413),
        (LIMITS, "/nowhere", 404),
        (GatewaySettings(token=SecretStr(TOKEN)), "/v1/events", 401),
    ],
)
async def test_a_body_without_end_is_refused_while_it_is_read(
    log: MemoryLog, settings: GatewaySettings, path: str, status: int
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(ENDLESS_MB):
            yield b" " * 1024 * 1024
        pytest.fail("it reads on and on")

    async with served(settings, log) as url, httpx.AsyncClient(timeout=60) as client:
        # It hangs up: the sender sees the answer, or that sending broke off.
        try:
            answer = await client.post(url + path, content=endless(), headers=JSON)
        except httpx.TransportError:
            pass
        else:
            assert answer.status_code == status
        alive = await client.get(f"{url}/healthz")

    assert alive.status_code == 200
    assert log.events == []


async def exchange(url: str, request: bytes) -> bytes:
    """Send raw bytes, half-close, and read what comes back; nothing if it hangs up."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionResetError:
        # It refused, and did not read what was left.
        return b""
    finally:
        writer.close()


HEAD = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        HEAD + b"Transfer-Encoding: nonsense\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        # It says 500 bytes, sends 2 and leaves.
        HEAD + b"Content-Length: 500\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + b" " * 5000 + b"\r\n0\r\n\r\n",
    ],
)
async def test_broken_http_is_refused_and_the_server_lives(
    log: MemoryLog, request_bytes: bytes
) -> None:
    async with served(LIMITS, log) as url:
        answer = await exchange(url, request_bytes)
        async with httpx.AsyncClient() as client:
            good = await client.post(f"{url}/v1/events", content=USAGE, headers=JSON)

    assert answer == b"" or re.match(rb"HTTP/1\.1 (4..|501) ", answer)
    assert good.status_code == 202
    assert log.events == [usage()]


async def test_a_body_that_does_not_come_is_not_waited_for(log: MemoryLog) -> None:
    settings = GatewaySettings(request_timeout_s=0.05)
    async with served(settings, log) as url:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(HEAD + b"Content-Length: 500\r\n\r\n{")
        answer = await asyncio.wait_for(reader.readline(), 60)
        writer.close()

    assert answer.split(b" ")[1] == b"408"
    assert log.events == []


async def test_the_readmes_example_is_accepted(client: httpx.AsyncClient, log: MemoryLog) -> None:
    (body,) = re.findall(r"-d '(\{.*?\})'$", (ROOT / "README.md").read_text(), re.DOTALL | re.M)

    answer = await client.post("/v1/events", content=body, headers=JSON)

    assert answer.text == '{"accepted":1}'
    assert log.events == [EVENT.validate_json(json.dumps(json.loads(body)))]


def settings_on(host: str, token: str | None = None, port: int = 8585) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        gateway=GatewaySettings(
            host=host, port=port, token=None if token is None else SecretStr(token)
        ),
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_others_are_not_let_in_without_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no token is set: set MARLIN_GATEWAY__TOKEN"):
        await run_gateway(settings_on(host), stop=asyncio.Event())


@pytest.mark.parametrize(
    ("host", "token", "insecure"),
    [
        ("127.0.0.1", None, False),
        ("localhost", None, False),
        ("0.0.0.0", TOKEN, False),
        ("0.0.0.0", None, True),
    ],
)
async def test_it_listens_and_lives_without_kafka_and_stops(
    host: str, token: str | None, insecure: bool
) -> None:
    settings = settings_on(host, token, free_port())
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_gateway(settings, stop=stop, ready=ready, insecure=insecure))
    await asyncio.wait_for(ready.wait(), 60)
    headers = httpx.Headers(JSON, encoding="utf-8")
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    async with httpx.AsyncClient(base_url=f"http://localhost:{settings.gateway.port}") as client:
        health = await client.get("/healthz")
        readiness = await client.get("/readyz")
        refused = await client.post("/v1/events", content=USAGE, headers=headers)
    stop.set()
    await asyncio.wait_for(running, 60)

    assert (health.status_code, readiness.status_code, refused.status_code) == (200, 503, 503)
    assert "nothing was sent" in problem_of(refused)["detail"]


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
            await run_gateway(settings_on("127.0.0.1", port=port), stop=asyncio.Event())


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 300, "\x00"])
async def test_an_address_that_is_none_is_named(host: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        await run_gateway(settings_on(host, TOKEN), stop=asyncio.Event())


def test_short_tokens_are_refused_and_none_is_shown() -> None:
    with pytest.raises(ValueError, match="at least 16 characters") as refused:
        GatewaySettings(token=SecretStr("hunter2"))

    assert "hunter2" not in str(refused.value)
    assert TOKEN not in repr(GatewaySettings(token=SecretStr(TOKEN)))
