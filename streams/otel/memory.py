"""Which spans count: each once, and of spans that enclose each other only one. Pure.

Frameworks put their children's token counts on their own spans as well. So of two calls that
enclose each other, one counts: normally the inner one, whose span ends, and comes, first.

| comes | counts |
|---|---|
| a span that came before | no |
| a call that encloses a call with tokens that came before | no: its tokens are those |
| a call inside one that was counted with tokens | no: its tokens were in those |
| any other call | yes |

"Encloses" is known through the spans in between that have come. What is remembered is a function
of the last spans of the log, so that reading them again comes to the same answers.
"""

from __future__ import annotations

from collections import OrderedDict

from marlin.streams.otel.link import Link

__all__ = ["Memory"]

_DEEPEST = 64
"""Nesting that is followed; also ends a chain of spans that enclose each other."""


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


class Memory:
    """The last `capacity` spans of one partition, and the parents they name."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def judge(self, offset: int, link: Link) -> bool:
        """Whether the span at `offset` counts. Called once per offset, in their order."""
        self._forget(offset - self._capacity)
        known = self._touch(_key(link.trace, link.span), offset)
        if known.came:
            return False
        known.came = True
        if link.parent and link.parent != link.span:
            known.parent = _key(link.trace, link.parent)
        holds_tokens = known.encloses or link.is_reported
        inside_counted = self._climb(known, offset, encloses=holds_tokens)
        if not link.run or known.encloses or inside_counted:
            return False
        known.counted = link.is_reported
        return True

    def _climb(self, known: _Known, offset: int, *, encloses: bool) -> bool:
        """Mark the spans around `known`; returns whether the tokens of one were counted."""
        inside_counted = False
        for _ in range(_DEEPEST):
            if known.parent is None:
                break
            known = self._touch(known.parent, offset)
            known.encloses |= encloses
            inside_counted |= known.counted
        return inside_counted

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
