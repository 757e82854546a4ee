"""A span, whichever way it was encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Scalar", "Span"]

Scalar = str | bool | int | float
"""The values of attributes that usage is read from; lists, maps and bytes are left out."""


@dataclass(frozen=True, slots=True)
class Span:
    """What metering needs of an ended span."""

    trace_id: str
    """32 lower-case hex digits."""
    span_id: str
    """16 lower-case hex digits."""
    parent_id: str
    """Of the enclosing span; empty for a root."""
    start_ns: int
    """Since 1970 [ns]; 0 where not said."""
    end_ns: int
    failed: bool
    """Whether its status is an error."""
    attributes: Mapping[str, Scalar]
    resource: Mapping[str, Scalar]
    """Attributes of what emitted it: service, cloud, region."""
    scope: str
    """The instrumentation."""
