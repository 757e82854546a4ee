"""One way to ask a source over HTTP: bounded in time, tries and size, and silent about tokens."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

from marlin.errors import (
    ConfigurationError,
    GridAuthError,
    GridDataError,
    GridError,
    GridRateLimitError,
    GridUnavailableError,
    GridZoneError,
)

if TYPE_CHECKING:
    import httpx

    from marlin.settings import GridSettings

__all__ = ["GridClient", "Params", "basic_authorization"]

Params = Sequence[tuple[str, str]]

_FIRST_PAUSE_S = 0.5
_QUOTED = 200
"""Characters of an answer that an error message repeats."""


@dataclass(frozen=True, slots=True)
class _Again:
    """A failure that may pass."""

    error: GridError
    pause_s: float | None
    """What the source asked for [s]; None: it did not say."""


class GridClient:
    """Asks one source. Made for one event loop; `aclose` when done.

    Raises ConfigurationError where httpx is missing, or where a token would travel in the clear.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        settings: GridSettings,
        *,
        secrets: Collection[str] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        httpx = _httpx()
        url = httpx.URL(base_url)
        local = url.host in ("localhost", "127.0.0.1", "::1")
        if url.scheme != "https" and not (url.scheme == "http" and local):
            raise ConfigurationError(
                f"{provider}: an https:// address was expected, got {base_url!r}; nothing is sent, "
                "since a token could be read on the way: correct the address in MARLIN_GRID__…_URL"
            )
        self.provider = provider
        self._base_url = base_url.rstrip("/")
        self._settings = settings
        self._secrets = tuple(secret for secret in secrets if secret)
        self._sleep = sleep
        _keep_queries_out_of_logs(url.host)
        self._http = httpx.AsyncClient(
            timeout=settings.timeout_s,
            follow_redirects=False,
            # A proxy of the environment is for the way out, not for this machine.
            trust_env=not local,
        )

    async def get(
        self,
        path: str,
        params: Params = (),
        *,
        headers: Mapping[str, str] | None = None,
        readable: Collection[int] = (200,),
        uncovered: Collection[int] = (),
    ) -> bytes:
        """The body of an answer whose status is in `readable`.

        A status in `uncovered` means that the source does not have the zone. Connection errors,
        timeouts, 429 and 5xx are tried again, `attempts` times in all, with growing pauses or
        those that Retry-After asks for. Redirects are not followed: they would take the token
        along. Raises GridError.
        """
        again: _Again | None = None
        for attempt in range(self._settings.attempts):
            if again is not None:
                pause_s = self._pause_s(attempt, again)
                if pause_s is None:
                    break
                await self._sleep(pause_s)
            found = await self._once(path, params, headers or {})
            if isinstance(found, _Again):
                again = found
                continue
            status, body, response = found
            if status in readable:
                return body
            failed = self._failure(status, body, response, uncovered)
            if isinstance(failed, GridError):
                raise failed
            again = failed
        assert again is not None
        raise again.error

    async def get_json(
        self,
        path: str,
        params: Params = (),
        *,
        headers: Mapping[str, str] | None = None,
        uncovered: Collection[int] = (),
    ) -> Any:
        """The JSON value of an answer. Raises as `get` does, GridDataError where it is none."""
        body = await self.get(path, params, headers=headers, uncovered=uncovered)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise self.data_error(f"JSON was expected, got {self._quote(body)}") from exc

    def data_error(self, what: str) -> GridDataError:
        """An error that says what is wrong with an answer."""
        return GridDataError(
            f"{self.provider}: {what}; nothing of this answer is used", provider=self.provider
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _once(
        self, path: str, params: Params, headers: Mapping[str, str]
    ) -> tuple[int, bytes, httpx.Response] | _Again:
        httpx = _httpx()
        body = bytearray()
        try:
            # Of the whole answer: httpx's own timeout is for each read, and one byte every few
            # seconds would never end.
            async with (
                asyncio.timeout(self._settings.timeout_s),
                self._http.stream(
                    "GET", self._base_url + path, params=list(params), headers=dict(headers)
                ) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > self._settings.max_body_bytes:
                        raise self.data_error(
                            f"at most {self._settings.max_body_bytes} bytes were expected "
                            "(MARLIN_GRID__MAX_BODY_BYTES), got more"
                        )
                return response.status_code, bytes(body), response
        except (httpx.HTTPError, TimeoutError) as exc:
            # Without `from exc`: httpx keeps the request, and with it the token, in its errors.
            slow = isinstance(exc, (httpx.TimeoutException, TimeoutError))
            why = f"no answer within {self._settings.timeout_s:g} s" if slow else type(exc).__name__
            return _Again(self._unavailable(why), None)

    def _failure(
        self, status: int, body: bytes, response: httpx.Response, uncovered: Collection[int]
    ) -> GridError | _Again:
        """What an unwanted status means; `_Again` where it may pass."""
        if status in uncovered:
            return GridZoneError(
                f"{self.provider}: status {status}: the zone is not known or not in the plan "
                f"({self._quote(body)}); it is not asked for again for a while",
                provider=self.provider,
            )
        if status in (401, 403):
            return GridAuthError(
                f"{self.provider}: status {status}: the token was refused; set a valid one and "
                "restart, it is not tried again for a while",
                provider=self.provider,
            )
        if status == 429 or status >= 500:
            pause_s = _retry_after_s(response.headers.get("retry-after"))
            if status != 429:
                return _Again(self._unavailable(f"status {status}", pause_s), pause_s)
            told = "" if pause_s is None else f", wait {pause_s:g} s"
            text = f"{self.provider}: status 429: too many requests{told}; asked again later"
            return _Again(
                GridRateLimitError(text, provider=self.provider, retry_after_s=pause_s), pause_s
            )
        if response.is_redirect:
            return self.data_error(
                f"status 200 was expected, got a redirect ({status}), which is not followed: "
                "correct the address in MARLIN_GRID__…_URL"
            )
        return self.data_error(f"status 200 was expected, got {status}: {self._quote(body)}")

    def _unavailable(self, why: str, retry_after_s: float | None = None) -> GridUnavailableError:
        return GridUnavailableError(
            f"{self.provider}: unavailable ({why}, after up to {self._settings.attempts} "
            "requests); asked again later",
            provider=self.provider,
            retry_after_s=retry_after_s,
        )

    def _pause_s(self, attempt: int, again: _Again) -> float | None:
        """Pause before attempt number `attempt` [s]; None: too long to wait here."""
        if again.pause_s is not None:
            return again.pause_s if again.pause_s <= self._settings.retry_max_s else None
        longest_s = min(_FIRST_PAUSE_S * 2.0 ** (attempt - 1), self._settings.retry_max_s)
        # Between half of it and all: a fleet that failed together must not come back together.
        return longest_s * random.uniform(0.5, 1.0)

    def _quote(self, body: bytes) -> str:
        text = body[: _QUOTED * 4].decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return repr(text[:_QUOTED])


def basic_authorization(username: str, password: str) -> str:
    """The value of an HTTP Basic `Authorization` header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def _retry_after_s(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as a date (RFC 9110)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as exc:
        raise ConfigurationError(
            "hourly grid intensity needs httpx, which is not installed; "
            "pip install 'marlin-carbon[grid]', or unset MARLIN_GRID__PROVIDER"
        ) from exc
    return httpx


_quiet_hosts: set[str] = set()


def _without_query(record: logging.LogRecord) -> bool:
    """httpx logs the address of each request; EIA's and ENTSO-E's tokens are in it."""
    if isinstance(record.args, tuple):
        record.args = tuple(_shown(argument) for argument in record.args)
    return True


def _shown(argument: Any) -> object:
    if getattr(argument, "host", None) in _quiet_hosts:
        return argument.copy_with(query=None)
    return argument


def _keep_queries_out_of_logs(host: str) -> None:
    _quiet_hosts.add(host)
    # Adding the same filter again does nothing.
    logging.getLogger("httpx").addFilter(_without_query)
