"""Traces to events: exact on good lines, whatever stands around them."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import ConfigurationError, DataError
from marlin.replay import (
    MAX_LINE_BYTES,
    BadLine,
    Message,
    Spread,
    TraceRow,
    read_events,
    read_trace,
    sniff,
)
from marlin.schemas import EVENT, MAX_TOKENS, RunFinished, RunStarted, Usage

HEADER = b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
NOON = datetime(2023, 11, 16, 12, tzinfo=UTC)

ROWS = st.builds(
    TraceRow,
    st.datetimes(timezones=st.just(UTC)),
    st.integers(0, MAX_TOKENS),
    st.integers(0, MAX_TOKENS),
)


def read(content: bytes) -> list[TraceRow | BadLine]:
    return list(read_trace(io.BytesIO(content)))


def spread(runs: int = 2, agents: int = 2) -> Spread:
    return Spread("replay-1", model="gpt-4o", provider="", region="fr", runs=runs, agents=agents)


def test_a_row_is_read_to_the_microsecond_as_utc() -> None:
    assert read(HEADER + b"2023-11-16 18:17:03.9799600,4808,10\n") == [
        TraceRow(datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC), 4808, 10)
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + HEADER + b"2023-11-16 12:00:00,7,8\n",
        HEADER + b"\n\r\n2023-11-16 12:00:00,7,8",
        HEADER.replace(b"\n", b"\r\n") + b"2023-11-16T12:00:00Z,7,8\r\n",
        HEADER + b"2023-11-16 13:00:00.000+01:00, 7 ,8\n",
        HEADER + b'"2023-11-16 12:00:00","7","8"\n',
        HEADER + b"2023-11-16 12:00:00,0000000000007,8\n",
        b"GeneratedTokens, user,TIMESTAMP ,ContextTokens\n8,x,2023-11-16 12:00:00,7\n",
        b'GeneratedTokens,user,TIMESTAMP,ContextTokens\n8,"a, b",2023-11-16 12:00:00,7\n',
    ],
    ids=["bom", "blank", "crlf", "offset", "quoted", "zeros", "order", "comma"],
)
def test_the_same_row_in_other_guises(content: bytes) -> None:
    assert read(content) == [TraceRow(NOON, 7, 8)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"2023-11-16 12:00:00,7", "expected 3 fields as in the header, found 2 fields"),
        (b"2023-11-16 12:00:00,7,8,9", "expected 3 fields as in the header, found 4 fields"),
        (b'2023-11-16 12:00:00,7,"8', "found unbalanced quotes"),
        (b"2023-11-16 12:00:00,-7,8", "whole number from 0 to 100000000, got '-7'"),
        (b"2023-11-16 12:00:00,7.0,8", "got '7.0'"),
        (b"2023-11-16 12:00:00,7e2,8", "got '7e2'"),
        (b"2023-11-16 12:00:00,7_0,8", "got '7_0'"),
        (b"2023-11-16 12:00:00,,8", "got ''"),
        (b"2023-11-16 12:00:00,7,100000001", "got '100000001'"),
        (b"2023-11-16 12:00:00,7," + b"9" * 5000, "whole number"),
        ("2023-11-16 12:00:00,7,٨".encode(), "got '٨'"),
        (b"2023-02-30 12:00:00,7,8", "TIMESTAMP: expected YYYY-MM-DD"),
        (b"2023-11-16 24:61:00,7,8", "TIMESTAMP"),
        (b"1700136000,7,8", "TIMESTAMP"),
        (b"2023-11-16,7,8", "TIMESTAMP"),
        (b"0001-01-01 00:00:00+14:00,7,8", "TIMESTAMP"),
        (b",7,8", "TIMESTAMP"),
        (b"\x00\xff\xfe,7,8", "TIMESTAMP"),
        (b"x" * (MAX_LINE_BYTES + 5), f"longer than {MAX_LINE_BYTES} bytes"),
        (b"x" * (3 * MAX_LINE_BYTES), f"longer than {MAX_LINE_BYTES} bytes"),
    ],
)
def test_a_bad_line_says_where_and_why_and_spoils_no_other(line: bytes, reason: str) -> None:
    good = b"2023-11-16 12:00:00,7,8\n"

    before, bad, after = read(HEADER + good + line + b"\n" + good)

    assert before == after == TraceRow(NOON, 7, 8)
    assert isinstance(bad, BadLine)
    assert bad.line == 3
    assert reason in bad.reason


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"TIMESTAMP,ContextTokens\n",
        b"timestamp,contexttokens,generatedtokens\n",
        b"TIMESTAMP,TIMESTAMP,ContextTokens,GeneratedTokens\n",
        b'TIMESTAMP,"ContextTokens,GeneratedTokens\n',
        b"\x89PNG\r\n",
    ],
)
def test_a_header_without_the_columns_is_refused_before_any_row(header: bytes) -> None:
    with pytest.raises(DataError, match="TIMESTAMP, ContextTokens, GeneratedTokens once"):
        read_trace(io.BytesIO(header + b"2023-11-16 12:00:00,7,8\n"))


@given(st.binary())
def test_every_line_that_is_not_blank_gives_one_item(body: bytes) -> None:
    items = read(HEADER + body)

    assert len(items) == sum(bool(line.strip()) for line in body.split(b"\n"))


@given(st.lists(ROWS), st.sampled_from(["{},{},{}", '"{}", {} ,"{}"']))
def test_rows_survive_being_written(rows: list[TraceRow], form: str) -> None:
    """Plain lines and those read with care come to the same rows."""
    lines = [form.format(row.time.isoformat(" ")[:-6], *row[1:]) for row in rows]

    assert read(HEADER + "\n".join(lines).encode()) == rows


@given(st.lists(ROWS, max_size=40), st.integers(1, 7), st.integers(1, 3))
def test_runs_are_whole_and_ordered_and_carry_every_row(
    rows: list[TraceRow], runs: int, agents: int
) -> None:
    spreading = spread(runs, agents)
    messages = [message for row in rows for message in spreading.messages(row)]
    messages += spreading.finish("completed")

    by_run: dict[str, list[Message]] = {}
    for message in messages:
        by_run.setdefault(message.run_id, []).append(message)
    assert list(by_run) == [f"replay-1-{n + 1}" for n in range(min(runs, len(rows)))]
    for run_id, own in by_run.items():
        first, *usages, last = [EVENT.validate_json(message.value) for message in own]
        assert isinstance(first, RunStarted)
        assert isinstance(last, RunFinished)
        assert {event.run_id for event in (first, *usages, last)} == {run_id}
        assert [usage.seq for usage in usages if isinstance(usage, Usage)] == list(
            range(len(own) - 2)
        )
    calls = [message for message in messages if message.tokens is not None]
    assert [(call.time, call.tokens) for call in calls] == [
        (row.time, (row.input_tokens, 0, 0, row.output_tokens)) for row in rows
    ]


def test_a_usage_says_what_the_row_and_the_options_say() -> None:
    spreading = spread()
    (_, first), (_, _), (third,) = (spreading.messages(TraceRow(NOON, 7, 8)) for _ in range(3))

    assert EVENT.validate_json(first.value) == Usage(
        event_id="replay-1-e0",
        run_id="replay-1-1",
        agent_id="agent-1",
        producer_id="replay-1",
        seq=0,
        time=NOON,
        provider="",
        model="gpt-4o",
        region="fr",
        input_tokens=7,
        output_tokens=8,
    )
    later = EVENT.validate_json(third.value)
    assert isinstance(later, Usage)
    assert (later.run_id, later.agent_id, later.seq) == ("replay-1-1", "agent-2", 1)


def test_an_interrupted_replay_says_so_in_each_run() -> None:
    spreading = spread()
    list(spreading.messages(TraceRow(NOON, 7, 8)))

    (end,) = spreading.finish("failed", "the replay was interrupted")

    assert EVENT.validate_json(end.value) == RunFinished(
        run_id="replay-1-1", time=NOON, status="failed", reason="the replay was interrupted"
    )


@pytest.mark.parametrize(("model", "region"), [("", "fr"), ("m" * 257, "fr"), ("m", "r" * 257)])
def test_a_model_or_region_that_no_event_can_carry_is_refused_at_once(
    model: str, region: str
) -> None:
    with pytest.raises(ConfigurationError, match="no event can say this"):
        Spread("replay-1", model=model, provider="", region=region, runs=1, agents=1)


def test_events_keep_their_bytes() -> None:
    usage = (
        b'{"type":"usage","event_id":"e","run_id":"r","agent_id":"a","producer_id":"p","seq":0,'
        b'"time":"2023-11-16T12:00:00Z","provider":"openai","model":"m","region":"fr",'
        b'"input_tokens":1,"cache_read_tokens":2, "cache_write_tokens":3,"output_tokens":4}'
    )
    finished = (
        b'{"type":"run.finished","run_id":"r","time":"2023-11-16T12:00:01Z","status":"completed"}'
    )

    items = list(read_events(io.BytesIO(b"\xef\xbb\xbf" + usage + b"\r\n\n " + finished)))

    assert items == [
        Message("r", usage, NOON, (1, 2, 3, 4)),
        Message("r", finished, NOON + timedelta(seconds=1), None),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "Invalid JSON"),
        (b"[]", "object"),
        (b'{"type":"usage"}', "usage.event_id"),
        (b'{"type":"carbon"}', "does not match any of the expected tags"),
        (b"\xff\xfe", "Invalid JSON"),
        (b" " * (MAX_LINE_BYTES + 1), f"longer than {MAX_LINE_BYTES} bytes"),
    ],
)
def test_a_line_that_is_no_event_is_refused_alone(line: bytes, reason: str) -> None:
    good = b'{"type":"run.started","run_id":"r","time":"2023-11-16T12:00:00Z"}\n'

    before, bad, after = read_events(io.BytesIO(good + line + b"\n" + good))

    assert before == after == Message("r", good.strip(), NOON, None)
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert reason in bad.reason


@given(st.binary())
def test_no_bytes_break_the_reading_of_events(body: bytes) -> None:
    items = list(read_events(io.BytesIO(body)))

    assert len(items) == len([line for line in _without_bom(body).split(b"\n") if line.strip()])


def _without_bom(body: bytes) -> bytes:
    return body.removeprefix(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b'{"type":"usage"}', "jsonl"),
        (b'\xef\xbb\xbf\n  {"type":"usage"}', "jsonl"),
        (HEADER, "csv"),
        (b"", "csv"),
    ],
)
def test_the_format_is_seen_in_the_first_character(start: bytes, kind: str) -> None:
    file = io.BytesIO(start)

    assert sniff(file) == kind
    assert file.tell() == 0


def test_offsets_are_turned_into_utc() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    (row,) = read(HEADER + b"2023-11-16 17:30:00+05:30,7,8\n")

    assert isinstance(row, TraceRow)
    assert row.time == datetime(2023, 11, 16, 17, 30, tzinfo=india)
    assert row.time.tzinfo is UTC
