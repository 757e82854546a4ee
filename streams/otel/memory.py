"""Which spans count: each once, and of spans that enclose each other only one. Pure.

Frameworks put their children's token counts on their own spans as well. So of two calls that
enclose each other one counts, normally the inner one. A span waits a while (the hold-back) for
those inside it; then it is judged:

| the span | counts |
|---|---|
| came before | no |
| encloses a call with tokens | no: its tokens are those |
| is inside one that was counted with tokens | no: its tokens were in those |
| is any other call | yes |

"Encloses" is known through the spans in between that have come. All of it is a function of the
last records of one log and their times, so that reading them again comes to the same answers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from marlin.streams.otel.link import Link

__all__ = ["Counted", "Memory"]

_DEEPEST = 64
"""Nesting that is followed; also ends a chain of spans that enclose each other."""


class Counted(NamedTuple):
    """A span that counts."""

    offset: int
    link: Link


class _Known:
    """A span that came, or that one which came has for its parent."""

    __slots__ = ("came", "counted", "encloses", "offset", "parent")

    def __init__(self) -> None:
        self.offset = 0
        """Where the log last spoke of it."""
        self.parent: bytes | None = None
        self.came = False
        self.encloses = False
        """Whether a call with tokens is inside of it."""
        self.counted = False
        """Whether its own tokens were counted."""


class _Waiting(NamedTuple):
    since_ms: int
    offset: int
    link: Link
    known: _Known


class Memory:
    """The last `capacity` records of one partition: their spans, and the parents they name."""

    def __init__(self, capacity: int, *, hold_back_ms: int) -> None:
        self._capacity = capacity
        self._hold_back_ms = hold_back_ms
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._waiting: deque[_Waiting] = deque()
        self._now_ms = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def waits_from(self) -> int | None:
        """The offset of the first span that is not judged yet; None when all are."""
        return self._waiting[0].offset if self._waiting else None

    def take(self, offset: int, time_ms: int, link: Link) -> list[Counted]:
        """Take the record at `offset`, written at `time_ms`; once per offset, in their order.

        Returns the spans that have waited long enough now and count, in the order of the log.
        """
        # The log's time never goes back, whoever wrote a record.
        self._now_ms = max(self._now_ms, time_ms)
        self._forget(offset - self._capacity)
        if not link.is_tick:
            self._place(offset, link)
        found: list[Counted] = []
        while self._waiting and self._is_due(self._waiting[0], offset):
            waiting = self._waiting.popleft()
            if not waiting.known.encloses and not self._is_inside_counted(waiting.known):
                waiting.known.counted = waiting.link.is_reported
                found.append(Counted(waiting.offset, waiting.link))
        return found

    def _place(self, offset: int, link: Link) -> None:
        known = self._touch(_key(link.trace, link.span), offset)
        if known.came:
            return
        known.came = True
        if link.parent and link.parent != link.span:
            known.parent = _key(link.trace, link.parent)
        self._mark_around(known, offset, holds_tokens=known.encloses or link.is_reported)
        if link.run:
            self._waiting.append(_Waiting(self._now_ms, offset, link, known))

    def _is_due(self, waiting: _Waiting, offset: int) -> bool:
        # None waits until what is known of it is forgotten.
        crowded = offset - waiting.offset >= self._capacity // 2
        return crowded or self._now_ms - waiting.since_ms >= self._hold_back_ms

    def _mark_around(self, known: _Known, offset: int, *, holds_tokens: bool) -> None:
        for _ in range(_DEEPEST):
            if known.parent is None:
                return
            known = self._touch(known.parent, offset)
            known.encloses |= holds_tokens

    def _is_inside_counted(self, known: _Known) -> bool:
        for _ in range(_DEEPEST):
            around = known.parent and self._known.get(known.parent)
            if not around:
                return False
            if around.counted:
                return True
            known = around
        return False

    def _touch(self, key: bytes, offset: int) -> _Known:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known()
        else:
            self._known.move_to_end(key)
        known.offset = offset
        return known

    def _forget(self, until: int) -> None:
        while self._known:
            key, known = next(iter(self._known.items()))
            if known.offset > until:
                break
            del self._known[key]


def _key(trace: str, span: str) -> bytes:
    return bytes.fromhex(trace + span)
