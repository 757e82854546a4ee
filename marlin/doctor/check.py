"""What one check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Check", "Status", "counted", "listed"]

Status = Literal["ok", "warn", "fail", "skip"]
"""`warn`: look at it; `fail`: something is wrong or stands still; `skip`: not looked at."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    text: str
    """What was found, one sentence."""
    remedy: str = ""
    """What to do about it; empty when there is nothing to do."""
    details: tuple[str, ...] = ()
    """Where exactly, one line each."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 run`, `2,000 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: list[str]) -> str:
    """The first few names, and how many there are besides."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"
