"""What OpenAI's and Anthropic's packages share: one generator (Stainless) writes both.

Every call of every resource, of its raw, streaming and parsing variants, of helpers built on it
and of frameworks above goes through `request` of the client's base class, so that method alone is
replaced. It takes the options of the request, among them `post_parser`: a function that the
package applies to whatever it has parsed, a stream too, at once or when a raw response is parsed.
There the answer is seen before anybody else, so the caller gets the package's own objects.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from marlin.errors import CarbonBudgetExceededError
from marlin.normalise import Reading
from marlin.runtime.integrations.calls import MeteredCall, begin, log_once
from marlin.runtime.integrations.replacement import Replacement
from marlin.runtime.integrations.streams import (
    AsyncWatchedIterator,
    Collector,
    WatchedIterator,
    stop_half_way,
)
from marlin.tokens import TokenUsage

__all__ = ["Answers", "Instrumentation", "Outgoing", "Package"]


class Answers(Protocol):
    """How the answers of one endpoint are read."""

    def read(self, answer: Any) -> Reading:
        """A whole answer: an object of the package, or a mapping of its JSON."""
        ...

    def collector(self) -> Collector:
        """A new one, for one stream."""
        ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that makes a model generate."""

    provider: str
    region: str | None
    model: str
    prompt: object
    max_output_tokens: int | None
    answers: Answers
    body: Mapping[str, Any] | None = None
    """What to send instead, if anything."""


class Package(Protocol):
    """One package of this kind, as the instrumentation needs it."""

    @property
    def name(self) -> str: ...
    @property
    def clients(self) -> tuple[type[Any], type[Any]]:
        """The synchronous and the asynchronous one."""
        ...

    @property
    def streams(self) -> tuple[type[Any], type[Any]]:
        """The synchronous and the asynchronous one."""
        ...

    @property
    def timeout(self) -> type[Exception]: ...

    def outgoing(self, client: Any, url: str, body: Mapping[str, Any]) -> Outgoing | None:
        """What a POST of `body` asks for; None where nothing is generated."""
        ...

    def refuses_addition(self, exc: Exception) -> bool:
        """Whether a server refuses what `Outgoing.body` added, so that it is sent without."""
        ...


class Instrumentation:
    """The replacements in one package."""

    def __init__(self, package: Package) -> None:
        """Raises `ConfigurationError` where the package has no `request` to replace."""
        self._package = package
        self._replacements = (
            Replacement(package.clients[0], "request", self._replaced),
            Replacement(package.clients[1], "request", self._replaced_async),
        )

    def install(self) -> None:
        """Meter the calls of every client, also of those made before."""
        for replacement in self._replacements:
            replacement.install()

    def remove(self) -> None:
        """Put the originals back."""
        for replacement in self._replacements:
            replacement.remove()

    def _replaced(
        self, original: Callable[..., Any], replacement: Replacement
    ) -> Callable[..., Any]:
        @functools.wraps(original)
        def request(client: Any, cast_to: Any, options: Any, **how: Any) -> Any:
            sent = self._begin(client, options) if replacement.active else None
            if sent is None:
                return original(client, cast_to, options, **how)
            try:
                try:
                    result = original(client, cast_to, sent.options, **how)
                except Exception as exc:
                    if not sent.must_send_as_it_was(exc):
                        raise
                    result = original(client, cast_to, sent.options, **how)
            except BaseException as exc:
                sent.failed(exc)
                raise
            sent.returned(result, is_stream=bool(how.get("stream")))
            return result

        return request

    def _replaced_async(
        self, original: Callable[..., Any], replacement: Replacement
    ) -> Callable[..., Any]:
        @functools.wraps(original)
        async def request(client: Any, cast_to: Any, options: Any, **how: Any) -> Any:
            sent = self._begin(client, options) if replacement.active else None
            if sent is None:
                return await original(client, cast_to, options, **how)
            try:
                try:
                    result = await original(client, cast_to, sent.options, **how)
                except Exception as exc:
                    if not sent.must_send_as_it_was(exc):
                        raise
                    result = await original(client, cast_to, sent.options, **how)
            except BaseException as exc:
                sent.failed(exc)
                raise
            sent.returned(result, is_stream=bool(how.get("stream")))
            return result

        return request

    def _begin(self, client: Any, options: Any) -> _Sent | None:
        try:
            body = options.json_data
            if options.method.lower() != "post" or not isinstance(body, Mapping):
                return None
            url = options.url.partition("?")[0]
            # `extra_body` goes out on top of what the method's arguments say.
            extra: Mapping[str, Any] = options.extra_json or {}
            sent = {**cast(Mapping[str, Any], body), **extra}
            outgoing = self._package.outgoing(client, url, sent)
            if outgoing is None:
                return None
            call = begin(
                provider=outgoing.provider,
                model=outgoing.model,
                prompt=outgoing.prompt,
                max_output_tokens=outgoing.max_output_tokens,
                region=outgoing.region,
            )
            return _Sent(self._package, call, outgoing, options) if call.counts else None
        except CarbonBudgetExceededError:
            raise
        except Exception:
            log_once(self._package.name, f"a call of {self._package.name} could not be metered")
            return None


class _Sent:
    """One request that was let go."""

    def __init__(
        self, package: Package, call: MeteredCall, outgoing: Outgoing, options: Any
    ) -> None:
        self._package = package
        self._call = call
        self._answers = outgoing.answers
        self._as_it_was = options if outgoing.body is not None else None
        self._is_seen = False
        self.options = self._seen(options, outgoing.body)

    def must_send_as_it_was(self, exc: Exception) -> bool:
        """Whether the caller's own request may succeed where ours did not; `options` are it then,
        and nothing is hidden that the caller did not ask for."""
        if self._as_it_was is None or not self._package.refuses_addition(exc):
            return False
        self.options = self._seen(self._as_it_was, None)
        self._as_it_was = None
        return True

    def failed(self, exc: BaseException) -> None:
        """`request` raised."""
        if isinstance(exc, Exception) and not self._was_generating(exc):
            self._call.fail()
        else:
            self._call.partial(_nothing_known)

    def returned(self, result: Any, *, is_stream: bool) -> None:
        """`request` gave `result`; a raw response has not been parsed yet, and may never be."""
        if self._is_seen or not self._call.counts:
            return
        try:
            http = getattr(result, "http_response", result)
            if http.is_closed and not is_stream:
                self._call.finish(lambda: self._answers.read(http.json()))
            else:
                self._call.keep_open(lambda: self._read_unparsed(http), result)
        except Exception:
            log_once("returned", "an answer could not be watched; it counts only if it is parsed")

    def _read_unparsed(self, http: Any) -> None:
        try:
            answer = http.json()
        except Exception:  # not read, or read line by line: gone
            self._call.partial(_nothing_known)
        else:
            self._call.finish(lambda: self._answers.read(answer))

    def _was_generating(self, exc: Exception) -> bool:
        # Only what waited for the answer had sent the request; the provider computes on.
        waited = type(exc.__cause__).__name__ == "ReadTimeout"
        return isinstance(exc, self._package.timeout) and waited

    def _seen(self, options: Any, body: Mapping[str, Any] | None) -> Any:
        """`options`, with an eye on what is parsed."""
        theirs = options.post_parser

        # A plain function: Bedrock's client copies the options deeply, and functions alone are
        # left as they are.
        def post_parser(parsed: Any) -> Any:
            self._parsed(parsed)
            return theirs(parsed) if callable(theirs) else parsed

        # Empty, not absent: the package drops what is marked as omitted while it merges.
        sent: dict[str, Any] = {} if body is None else {"json_data": body, "extra_json": {}}
        return options.model_copy(update={"post_parser": post_parser, **sent})

    def _parsed(self, parsed: Any) -> None:
        self._is_seen = True
        try:
            if isinstance(parsed, self._package.streams):
                self._watch(parsed)
            else:
                self._call.finish(lambda: self._answers.read(parsed))
        except Exception:
            log_once("stream", "a stream could not be watched; it is counted when it is dropped")

    def _watch(self, stream: Any) -> None:
        collector, call = self._answers.collector(), self._call
        watched: AsyncWatchedIterator | WatchedIterator
        # Both have it since they were first generated, and nothing public does its work.
        if isinstance(stream, self._package.streams[1]):
            watched = AsyncWatchedIterator(stream._iterator, call, collector)
        else:
            watched = WatchedIterator(stream._iterator, call, collector)
        call.keep_open(lambda: stop_half_way(call, collector), stream)
        stream._iterator = watched
        _tell_of_closing(stream.response, watched)


def _tell_of_closing(response: Any, watched: AsyncWatchedIterator | WatchedIterator) -> None:
    """Tell `watched` when somebody closes `response`: the stream itself and the helpers around it
    close it each in their way, but all close the response.

    Weakly: a dropped stream is closed at once where nothing of it forms a cycle.
    """
    to_response: weakref.ref[Any] = weakref.ref(response)
    to_watched = weakref.ref(watched)

    def tell() -> None:
        if (reader := to_watched()) is not None:
            reader.closed()

    def close() -> None:
        if (one := to_response()) is not None:
            cast(Any, type(one)).close(one)
        tell()

    async def aclose() -> None:
        try:
            if (one := to_response()) is not None:
                await cast(Any, type(one)).aclose(one)
        finally:
            tell()

    if isinstance(watched, AsyncWatchedIterator):
        response.aclose = aclose
    else:
        response.close = close


def _nothing_known() -> Reading:
    return Reading(TokenUsage(0, 0, quality="missing"))
