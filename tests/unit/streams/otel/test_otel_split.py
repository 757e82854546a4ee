"""A record of spans to links, and links to records and events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from otel_spans import as_json, as_proto, chat, span

from marlin.errors import DataError
from marlin.schemas import EVENT
from marlin.streams.otel.link import Link
from marlin.streams.otel.split import Split, split

TRACE = f"{1:032x}"


def links(*spans: Any) -> Split:
    return split(as_proto(spans), run_id_attributes=("marlin.run_id",), received_ms=0)


def test_every_span_has_a_link_and_only_calls_have_usage() -> None:
    outer = span(1, gen_ai__operation__name="invoke_agent", gen_ai__usage__input_tokens=100)
    tool = span(3, parent=1)
    inner = chat(2, parent=3, marlin__run_id="run-1")

    found = links(outer, tool, inner)

    assert found.problem == ""
    assert [(link.span[-1], link.parent[-1:], link.run) for link in found.links] == [
        ("2", "3", "run-1"),
        ("3", "1", ""),
        ("1", "", ""),
    ]
    assert [link.is_reported for link in found.links] == [True, False, False]


def test_children_come_before_their_parents_whatever_the_order() -> None:
    nested = [chat(1), chat(2, parent=1), chat(3, parent=2), chat(4, parent=3)]

    for batch in (nested, nested[::-1], nested[2:] + nested[:2]):
        assert [link.span[-1] for link in links(*batch).links] == ["4", "3", "2", "1"]


def test_spans_that_enclose_each_other_are_all_there() -> None:
    found = links(chat(1, parent=2), chat(2, parent=1), chat(3, parent=3))

    assert sorted(link.span[-1] for link in found.links) == ["1", "2", "3"]


def test_a_bad_call_is_named_and_keeps_its_place_in_the_trace() -> None:
    found = links(chat(1, tokens=(-5, 1)), chat(2, parent=1))

    assert found.problem == (
        f"span {1:016x} of trace {TRACE}: gen_ai.usage.input_tokens is -5, "
        "expected a number of tokens from 0 to 100000000"
    )
    assert [(link.span[-1], link.run != "") for link in found.links] == [("2", True), ("1", False)]


def test_many_problems_are_summed_up() -> None:
    found = links(*(chat(number, tokens=(-1, 1)) for number in range(1, 6)))

    assert found.problem.count("gen_ai.usage.input_tokens is -1") == 3
    assert found.problem.endswith("; and 2 more")


def test_a_record_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="as protobuf or JSON"):
        split(b"junk", run_id_attributes=(), received_ms=0)


def test_both_encodings_split_alike() -> None:
    spans = [chat(1, marlin__run_id='a "quoted" run'), chat(2, parent=1)]
    options: dict[str, Any] = {"run_id_attributes": ("marlin.run_id",), "received_ms": 0}

    assert [link.dump() for link in split(as_proto(spans), **options).links] == [
        link.dump() for link in split(as_json(spans), **options).links
    ]


def test_a_link_travels_and_becomes_a_numbered_event() -> None:
    (sent,) = links(chat(1, marlin__run_id="run-1")).links

    link = Link.load(sent.dump())
    event = EVENT.validate_json(link.event("otlp:3:abc", 17))

    assert link.key == TRACE.encode()
    assert (link.trace, link.span, link.parent, link.run) == (TRACE, f"{1:016x}", "", "run-1")
    assert orjson.loads(event.model_dump_json(include={"producer_id", "seq", "input_tokens"})) == {
        "producer_id": "otlp:3:abc",
        "seq": 17,
        "input_tokens": 100,
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"junk",
        b"{}",
        b'{"trace":1,"span":"00"}',
        b'{"trace":"xy","span":"00"}',
        b'{"trace":"00","span":"00","run":"r"}',
        b'{"trace":"00","span":"00","run":"r","usage":7}',
    ],
)
def test_a_record_that_is_no_link_is_refused(value: bytes | None) -> None:
    with pytest.raises(DataError, match="expected the"):
        Link.load(value)
