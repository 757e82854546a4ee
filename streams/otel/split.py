"""A Kafka record of spans to one link per span. Pure and stateless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from marlin.errors import DataError
from marlin.streams.otel.decode import decode
from marlin.streams.otel.inference import inference_call, is_inference
from marlin.streams.otel.link import Link
from marlin.streams.otel.span import Span

__all__ = ["Split", "split"]

_SHOWN_PROBLEMS = 3
_DEEPEST = 64


@dataclass(slots=True)
class Split:
    """What a record holds, and why some of it is refused."""

    links: list[Link] = field(default_factory=list[Link])
    """One per span, children before their parents."""
    problem: str = ""
    """Why the record is dead-lettered. Its good spans count nevertheless: sent again as it was,
    they are known by their ids."""


def split(value: bytes, *, run_id_attributes: Sequence[str], received_ms: int) -> Split:
    """The links of the spans in `value`.

    A span that is no valid call keeps its link, without usage. Raises `DataError` when nothing
    can be read.
    """
    export = decode(value)
    problems = export.problems
    links: list[Link] = []
    for span in _children_first(export.spans):
        link = Link(span.trace_id, span.span_id, span.parent_id)
        if is_inference(span):
            try:
                call = inference_call(
                    span, run_id_attributes=run_id_attributes, received_ms=received_ms
                )
            except DataError as exc:
                problems.append(f"span {span.span_id} of trace {span.trace_id}: {exc}")
            else:
                link = Link(
                    *(span.trace_id, span.span_id, span.parent_id),
                    run=call.run_id,
                    is_reported=call.is_reported,
                    usage=msgspec.Raw(call.json),
                )
        links.append(link)
    return Split(links, _summary(problems))


def _summary(problems: list[str]) -> str:
    shown = problems[:_SHOWN_PROBLEMS]
    if len(problems) > _SHOWN_PROBLEMS:
        shown.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return "; ".join(shown)[:2048]


def _children_first(spans: list[Span]) -> list[Span]:
    """In the order in which they should be judged: an enclosing span after what it encloses."""
    parents = {(span.trace_id, span.span_id): span.parent_id for span in spans}

    def depth(span: Span) -> int:
        deep, parent = 0, span.parent_id
        # Bounded: a hostile batch may have spans that enclose each other.
        while deep < _DEEPEST and (found := parents.get((span.trace_id, parent))) is not None:
            deep, parent = deep + 1, found
        return deep

    return sorted(spans, key=depth, reverse=True)
