"""One span as a record of the internal topic: where it hangs in its trace, and its usage."""

from __future__ import annotations

import msgspec

from marlin.errors import DataError

__all__ = ["Link"]


class Link(msgspec.Struct, omit_defaults=True, frozen=True):
    """A span of a trace. Every span makes one, so that ancestors are found through all of them."""

    trace: str
    span: str
    parent: str = ""
    run: str = ""
    """The run that the usage belongs to; empty for a span that is no call of a model."""
    is_reported: bool = False
    """Whether the usage has token counts."""
    usage: msgspec.Raw = msgspec.Raw()
    """The usage event as JSON, without `producer_id` and `seq`."""

    @property
    def is_tick(self) -> bool:
        """Whether this is no span: a record that only says what time it is."""
        return not self.span

    @property
    def key(self) -> bytes:
        """The key of its record: spans of a trace stay in one partition."""
        return self.trace.encode()

    def dump(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def load(cls, value: bytes | None) -> Link:
        """What `dump` wrote; raises `DataError` for anything else."""
        try:
            link = msgspec.json.decode(value or b"", type=cls)
            bytes.fromhex(link.trace + link.span + link.parent)
        except (msgspec.MsgspecError, ValueError) as exc:
            raise DataError(f"expected the record of a span: {exc}") from exc
        if link.run and not bytes(link.usage).startswith(b"{"):
            raise DataError("expected the usage of a call, found none")
        return link

    @classmethod
    def tick(cls) -> Link:
        """A record without a span."""
        return cls("", "")

    def event(self, producer_id: str, seq: int) -> bytes:
        """The usage event, numbered. Only for a span that is a call."""
        head = b'{"producer_id":"%b","seq":%d,' % (producer_id.encode(), seq)
        return head + bytes(self.usage)[1:]
