from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from grid_api import TOKEN, FakeApi, Reply, grid_settings

from marlin.errors import (
    ConfigurationError,
    GridAuthError,
    GridDataError,
    GridRateLimitError,
    GridUnavailableError,
    GridZoneError,
)
from marlin.grid.client import GridClient, basic_authorization


class Naps:
    """Takes the place of sleeping, and remembers for how long."""

    def __init__(self) -> None:
        self.taken_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken_s.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def client(api: FakeApi, naps: Naps) -> AsyncIterator[GridClient]:
    settings = grid_settings(api, attempts=4, retry_max_s=30.0)
    made = GridClient("source", api.url, settings, secrets=[TOKEN], sleep=naps)
    yield made
    await made.aclose()


async def test_an_answer_comes_back(client: GridClient, api: FakeApi) -> None:
    api.on("/a", Reply({"x": 1}))

    assert await client.get_json("/a", [("q", "1"), ("q", "2")], headers={"h": "v"}) == {"x": 1}
    (request,) = api.requests
    assert request.query == {"q": ["1", "2"]}
    assert request.headers["h"] == "v"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_not_tried_again(
    client: GridClient, api: FakeApi, status: int
) -> None:
    api.on("/a", Reply({"error": f"bad {TOKEN}"}, status))

    with pytest.raises(GridAuthError, match=f"status {status}: the token was refused") as caught:
        await client.get("/a", [("key", TOKEN)])
    assert len(api.requests) == 1
    assert TOKEN not in str(caught.value)
    assert caught.value.provider == "source"


async def test_a_zone_that_is_not_in_the_plan(client: GridClient, api: FakeApi) -> None:
    api.on("/a", Reply({"error": "no zone"}, 404))

    with pytest.raises(GridZoneError, match="no zone"):
        await client.get("/a", uncovered=(403, 404))
    assert len(api.requests) == 1


async def test_an_answer_after_failures_of_the_server(
    client: GridClient, api: FakeApi, naps: Naps
) -> None:
    api.on("/a", Reply(status=500), Reply(status=502), Reply(status=503), Reply("[1]"))

    assert await client.get_json("/a") == [1]
    assert len(api.requests) == 4
    # Each pause is between half of 0.5, 1, 2 s and all of it.
    for taken_s, longest_s in zip(naps.taken_s, (0.5, 1.0, 2.0), strict=True):
        assert longest_s / 2 <= taken_s <= longest_s


async def test_tries_are_bounded(client: GridClient, api: FakeApi) -> None:
    api.on("/a", Reply(status=500))

    with pytest.raises(GridUnavailableError, match="status 500"):
        await client.get("/a")
    assert len(api.requests) == 4


async def test_retry_after_is_obeyed(client: GridClient, api: FakeApi, naps: Naps) -> None:
    api.on(
        "/a",
        Reply(status=429, headers={"Retry-After": "7"}),
        Reply(status=503, headers={"Retry-After": "3"}),
        Reply("[]"),
    )

    assert await client.get_json("/a") == []
    assert naps.taken_s == [7.0, 3.0]


async def test_retry_after_as_a_date(client: GridClient, api: FakeApi, naps: Naps) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    api.on(
        "/a",
        Reply(status=429, headers={"Retry-After": at}),
        Reply(status=429, headers={"Retry-After": past}),
        Reply("[]"),
    )

    await client.get("/a")

    assert 10 < naps.taken_s[0] <= 20
    assert naps.taken_s[1] == 0


async def test_a_long_retry_after_is_handed_on(
    client: GridClient, api: FakeApi, naps: Naps
) -> None:
    api.on("/a", Reply(status=429, headers={"Retry-After": "31"}))

    with pytest.raises(GridRateLimitError, match="wait 31 s") as caught:
        await client.get("/a")
    assert caught.value.retry_after_s == 31
    assert naps.taken_s == []
    assert len(api.requests) == 1


async def test_a_retry_after_that_says_nothing(client: GridClient, api: FakeApi) -> None:
    api.on("/a", Reply(status=429, headers={"Retry-After": "soon"}))

    with pytest.raises(GridRateLimitError) as caught:
        await client.get("/a")
    assert caught.value.retry_after_s is None
    assert len(api.requests) == 4


async def test_a_slow_server(api: FakeApi, naps: Naps) -> None:
    api.on("/a", Reply("[]", delay_s=0.5))
    client = GridClient("source", api.url, grid_settings(api, timeout_s=0.05), sleep=naps)

    with pytest.raises(GridUnavailableError, match=r"no answer within 0\.05 s"):
        await client.get("/a")
    assert len(api.requests) == 2
    await client.aclose()


async def test_a_truncated_body_is_tried_again(client: GridClient, api: FakeApi) -> None:
    api.on("/a", Reply('{"carbonIntensity": 310}', cut=True), Reply("[2]"))

    assert await client.get_json("/a") == [2]


async def test_nobody_listens(naps: Naps, api: FakeApi) -> None:
    settings = grid_settings(api)
    client = GridClient("source", "http://127.0.0.1:1", settings, secrets=[TOKEN], sleep=naps)

    with pytest.raises(GridUnavailableError, match="ConnectError") as caught:
        await client.get("/a", [("key", TOKEN)])
    # httpx's own error keeps the request, with the token in its address.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    await client.aclose()


async def test_a_large_body_is_refused(api: FakeApi) -> None:
    api.on("/a", Reply(b"x" * 2000))
    client = GridClient("source", api.url, grid_settings(api, max_body_bytes=1024))

    with pytest.raises(GridDataError, match="at most 1024 bytes"):
        await client.get("/a")
    assert len(api.requests) == 1
    await client.aclose()


async def test_a_redirect_is_not_followed(client: GridClient, api: FakeApi) -> None:
    api.on("/a", Reply(status=302, headers={"Location": f"{api.url}/b"}))
    api.on("/b", Reply("[]"))

    with pytest.raises(GridDataError, match=r"redirect \(302\)"):
        await client.get("/a", headers={"auth-token": TOKEN})
    assert api.asked("/b") == []


@pytest.mark.parametrize("body", ["", "<html>", '{"a": NaN}', "[1", b"\xff\xfe"])
async def test_what_is_no_json(client: GridClient, api: FakeApi, body: Any) -> None:
    api.on("/a", Reply(body))

    with pytest.raises(GridDataError, match="source: JSON was expected"):
        await client.get_json("/a")


async def test_no_token_in_messages_and_logs(
    client: GridClient, api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")  # other packages in this process quieten it
    api.on("/a", Reply({"error": f"no such thing for {TOKEN}"}, 400))

    with pytest.raises(GridDataError, match=r"got 400: .*for \*\*\*") as caught:
        await client.get("/a", [("api_key", TOKEN)], headers={"auth-token": TOKEN})
    assert TOKEN not in str(caught.value)
    assert "HTTP Request: GET" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("url", ["http://api.example.org", "ftp://localhost", "api.example.org"])
def test_a_token_never_travels_in_the_clear(api: FakeApi, url: str) -> None:
    with pytest.raises(ConfigurationError, match="https:// address was expected"):
        GridClient("source", url, grid_settings(api))


def test_basic_authorization() -> None:
    # RFC 7617, section 2.
    assert basic_authorization("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_what_to_install(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'marlin-carbon\[grid\]'"):
        GridClient("source", api.url, grid_settings(api))
