"""Records to events: nothing bad gets in, nothing bad harms its neighbours."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from events import Record, raw, record, started, usage
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marlin.schemas import EVENT, MAX_TOKENS, dump
from marlin.streams.call import Call, encode_call
from marlin.streams.decode import Refusal, decode_batch

GOOD = record(usage(), 0)


def decode(*records: Record, max_event_bytes: int = 1_000_000) -> list[Any]:
    """What `records` are, usage as its contract whichever way it was decoded."""
    decoded = decode_batch(records, max_event_bytes=max_event_bytes)
    return [EVENT.validate_json(encode_call(e)) if isinstance(e, Call) else e for e in decoded]


def refusal(bad: Record, **options: int) -> Refusal:
    """What `bad` is refused with, between two good records that must survive."""
    before, found, after = decode(record(usage(seq=1)), bad, record(usage(seq=2)), **options)
    assert (before, after) == (usage(seq=1), usage(seq=2))
    assert isinstance(found, Refusal)
    return found


def test_a_batch_is_decoded_in_order() -> None:
    events = [started(), usage(seq=0), usage(seq=1)]

    assert decode(*(record(event) for event in events)) == events


def test_leading_white_space_is_json_too() -> None:
    assert GOOD.value is not None
    assert decode(Record(0, GOOD.key, b" \n" + GOOD.value), GOOD) == [usage(), usage()]


@pytest.mark.parametrize(
    ("bad", "step", "says"),
    [
        (Record(0, b"run-1", None), "decode", "tombstone"),
        (Record(0, b"run-1", b""), "decode", "Invalid JSON"),
        (Record(0, b"run-1", b"not json"), "decode", "Invalid JSON"),
        (Record(0, b"run-1", b"\xff\xfe\x00"), "decode", "Invalid JSON"),
        (Record(0, b"run-1", b'{"type":"usage"'), "decode", "Invalid JSON"),
        (Record(0, b"run-1", b"[" * 100_000), "decode", "Invalid JSON"),
        (Record(0, b"run-1", b"null"), "validate", "event"),
        (Record(0, b"run-1", b"[]"), "validate", "event"),
        (Record(0, b"run-1", b"{}"), "validate", "type"),
        (raw(type="usage.v9"), "validate", "type"),
        (raw(input_tokens="12"), "validate", "input_tokens"),
        (raw(input_tokens=1.5), "validate", "input_tokens"),
        (raw(input_tokens=None), "validate", "input_tokens"),
        (raw(input_tokens=...), "validate", "input_tokens"),
        (raw(input_tokens=True), "validate", "input_tokens"),
        (raw(output_tokens=-1), "validate", "output_tokens"),
        (raw(output_tokens=MAX_TOKENS + 1), "validate", "output_tokens"),
        (raw(reasoning_tokens=201), "validate", "reasoning_tokens"),
        (raw(seq=-1), "validate", "seq"),
        (raw(run_id=""), "validate", "run_id"),
        (raw(run_id="x" * 257), "validate", "run_id"),
        (raw(time="yesterday"), "validate", "time"),
        (raw(time="2026-03-01T12:00:00"), "validate", "time"),
        (raw(time="2026-03-01T12:00:00+02:00"), "validate", "time"),
        (raw(cost_usd=-0.1), "validate", "cost_usd"),
        (raw(surprise=1), "validate", "surprise"),
        (raw(labels={"k": 1}), "validate", "labels"),
        (raw(key=None), "key", "found none"),
        (raw(key=b"run-2"), "key", "'run-2'"),
        (raw(key=b"\xff"), "key", "xff"),
    ],
)
def test_a_bad_record_is_refused_with_step_and_reason(bad: Record, step: str, says: str) -> None:
    found = refusal(bad)

    assert found.step == step
    assert says in found.reason
    assert len(found.reason) <= 2048


def test_numbers_that_json_cannot_have_are_refused() -> None:
    value = dump(usage()).replace(b'"input_tokens":1000', b'"input_tokens":NaN')

    assert refusal(Record(0, b"run-1", value)).reason.startswith("usage.input_tokens")
    huge = dump(usage(cost_usd=1.0)).replace(b'"cost_usd":1.0', b'"cost_usd":1e999')
    assert math.isinf(float("1e999"))
    assert "cost_usd" in refusal(Record(0, b"run-1", huge)).reason


def test_the_size_limit_is_inclusive() -> None:
    size = len(GOOD.value or b"")

    assert decode(GOOD, max_event_bytes=size) == [usage()]
    (found,) = decode(GOOD, max_event_bytes=size - 1)
    assert found == Refusal("size", f"expected at most {size - 1} bytes, found {size}")


def test_a_2_mb_value_is_refused_by_its_size() -> None:
    found = refusal(Record(0, b"run-1", b"x" * 2_000_000))

    assert found == Refusal("size", "expected at most 1000000 bytes, found 2000000")


def test_two_events_in_one_value_do_not_shift_their_neighbours() -> None:
    value = dump(usage(seq=5)) + b"," + dump(usage(seq=6))

    assert refusal(Record(0, b"run-1", value)).step == "decode"


def test_an_event_cannot_be_spread_over_two_records() -> None:
    whole = dump(usage(seq=7, labels={"a": "b,c"}))
    cut = whole.index(b",c")
    double = Record(0, b"run-1", dump(usage(seq=5)) + b"," + dump(usage(seq=6)))
    halves = [Record(0, b"run-1", whole[:cut]), Record(0, b"run-1", whole[cut + 1 :])]

    found = decode(record(usage(seq=1)), *halves, double, record(usage(seq=2)))

    assert [isinstance(entry, Refusal) for entry in found] == [False, True, True, True, False]


@given(st.lists(st.one_of(st.just(b"{}"), st.binary(max_size=40), st.text().map(str.encode))))
def test_garbage_never_harms_the_good(values: list[bytes]) -> None:
    records = [record(usage(seq=1))]
    for value in values:
        records += [Record(0, b"run-1", value), record(usage(seq=1))]

    found = decode(*records)

    assert found[::2] == [usage(seq=1)] * (len(values) + 1)
    assert all(isinstance(entry, Refusal) for entry in found[1::2])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=8,
    ),
    st.sampled_from(sorted(orjson.loads(dump(usage())))),
)
def test_a_field_of_any_shape_is_taken_or_refused_as_the_contract_says(
    value: Any, field: str
) -> None:
    try:
        changed = raw(**{field: value})
    except TypeError:  # an integer that orjson cannot write
        return

    (found,) = decode(changed)

    assert changed.value is not None
    try:
        event = EVENT.validate_json(changed.value)
    except ValidationError:
        assert isinstance(found, Refusal)
    else:
        assert found == event or (isinstance(found, Refusal) and found.step == "key")
