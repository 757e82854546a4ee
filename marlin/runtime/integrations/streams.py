"""Watching a stream while its caller reads it: nothing is read ahead, kept back or changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from marlin.normalise import Reading
from marlin.runtime.integrations.calls import MeteredCall, log_once

__all__ = ["AsyncWatchedIterator", "Collector", "WatchedIterator", "stop_half_way"]


class Collector(Protocol):
    """Gathers what a stream tells of its tokens."""

    @property
    def started(self) -> bool:
        """Whether anything was generated."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the tokens are final, though the stream may not have ended."""
        ...

    def observe(self, item: Any) -> bool:
        """Take the next item of the stream; False hides it from the caller, who did not ask."""
        ...

    def reading(self) -> Reading:
        """What is known by now."""
        ...


def stop_half_way(call: MeteredCall, collector: Collector) -> None:
    """Settle `call`, whose stream nobody reads to its end."""
    if collector.complete:
        call.finish(collector.reading)
    else:
        call.partial(collector.reading)


class _Watch:
    """Settles `call` by how the stream ends."""

    def __init__(self, call: MeteredCall, collector: Collector) -> None:
        self._call = call
        self._collector = collector
        self._reads = False

    def closed(self) -> None:
        """Whoever reads closed it. A stream that is read closes itself at its end, which its
        iterator tells better."""
        if not self._reads:
            stop_half_way(self._call, self._collector)

    def _sees(self, item: Any) -> bool:
        try:
            return self._collector.observe(item)
        except Exception:
            log_once("stream", "an item of a stream could not be read; it counts without it")
            return True

    def _ended(self) -> None:
        self._call.finish(self._collector.reading)

    def _broke(self, exc: BaseException) -> None:
        # An error instead of the first item: the provider refused. What is no `Exception` (a
        # cancelled task, an interrupt) came from this side, and the prompt was being computed.
        if isinstance(exc, Exception) and not self._collector.started:
            self._call.fail()
        else:
            stop_half_way(self._call, self._collector)


class WatchedIterator(_Watch):
    """Iterates as `inner` does."""

    def __init__(self, inner: Iterator[Any], call: MeteredCall, collector: Collector) -> None:
        super().__init__(call, collector)
        self._inner = inner

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            self._reads = True
            try:
                item = next(self._inner)
            except StopIteration:
                self._ended()
                raise
            except BaseException as exc:
                self._broke(exc)
                raise
            finally:
                self._reads = False
            if self._sees(item):
                return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class AsyncWatchedIterator(_Watch):
    """Iterates as `inner` does."""

    def __init__(self, inner: AsyncIterator[Any], call: MeteredCall, collector: Collector) -> None:
        super().__init__(call, collector)
        self._inner = inner

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            self._reads = True
            try:
                item = await anext(self._inner)
            except StopAsyncIteration:
                self._ended()
                raise
            except BaseException as exc:
                self._broke(exc)
                raise
            finally:
                self._reads = False
            if self._sees(item):
                return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
