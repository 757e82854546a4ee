"""The quick decoder takes nothing that the contract refuses, and reads nothing differently."""

from __future__ import annotations

import typing
from datetime import datetime, timedelta
from typing import Any

import msgspec
import orjson
import pytest
from events import usage
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marlin.schemas import EVENT, MAX_TOKENS, Usage, dump
from marlin.streams.call import Call, decode_call, encode_call

FIELDS = sorted(Usage.model_fields)
WHOLE = orjson.loads(usage(labels={"team": "a"}, tenant="t").model_dump_json())


def by_contract(value: bytes) -> Usage | None:
    try:
        event = EVENT.validate_json(value)
    except ValidationError:
        return None
    return event if isinstance(event, Usage) else None


def agrees(value: bytes) -> None:
    call = decode_call(value)
    if call is None:
        return  # the contract judges
    event = by_contract(value)
    assert event is not None
    assert {name: getattr(call, name) for name in FIELDS if name != "time"} == {
        name: getattr(event, name) for name in FIELDS if name != "time"
    }
    # The contract cuts digits below the microsecond off, the quick decoder rounds them.
    assert abs(call.time - event.time) <= timedelta(microseconds=1)


def test_it_has_the_contracts_fields_and_defaults() -> None:
    quick = {field.name: field for field in msgspec.structs.fields(Call)}
    assert list(quick) == list(Usage.model_fields)  # labels and usage_quality stay neighbours
    for name, field in quick.items():
        contract = Usage.model_fields[name]
        if name == "type":
            assert field.required  # what tells the families apart
        else:
            assert field.required == contract.is_required()
            assert field.required or field.default == contract.default


@pytest.mark.parametrize("changes", [{}, {"labels": {"a": "b"}}, {"cost_usd": 0.5, "tenant": "t"}])
def test_the_common_form_is_decoded(changes: dict[str, Any]) -> None:
    event = usage(**changes)

    call = decode_call(dump(event))

    assert call is not None
    assert by_contract(encode_call(call)) == event


def test_labels_stand_where_readers_look_for_them() -> None:
    call = decode_call(dump(usage(labels={"team": "a"})))

    assert b'"labels":{"team":"a"},"usage_quality":"' in encode_call(call)


_TIMES = [
    *("2026-03-01T12:00:00.123456789Z", "2026-03-01T12:00:00+00:00", "2026-03-01T12:00:00-00:00"),
    *("2026-03-01T12:00:00+02:00", "2026-03-01T12:00:00", "2026-03-01 12:00:00Z", "1700000000"),
    *("2026-03-01T24:00:00Z", "2026-03-01T12:00Z", "2026-W48-1T10:00Z", "2026-03-01T12:00:00,5Z"),
    *("2026-03-01t12:00:00z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z"),
]
_HOSTILE = st.one_of(
    st.sampled_from([*_TIMES, "", "x" * 256, "x" * 257, "\ud83d\ude00" * 128, "\x00", "usage"]),
    st.sampled_from([-1, 0, 1, MAX_TOKENS, MAX_TOKENS + 1, 2**53, 2**53 + 1, 2**63, 2**64, 1e400]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    st.dictionaries(st.text(max_size=300), st.text(max_size=300) | st.none(), max_size=40),
    st.lists(st.integers(), max_size=3),
    st.datetimes().map(datetime.isoformat),
)


@given(
    st.dictionaries(st.sampled_from([*FIELDS, "surprise"]), _HOSTILE, max_size=4),
    st.sets(st.sampled_from(FIELDS), max_size=2),
)
def test_what_it_takes_the_contract_takes_with_the_same_values(
    changes: dict[str, Any], without: set[str]
) -> None:
    changed = {k: v for k, v in (WHOLE | changes).items() if k not in without}
    try:
        agrees(orjson.dumps(changed))
    except (TypeError, UnicodeEncodeError):  # what orjson cannot write
        return


@given(st.binary(max_size=3), st.integers(0, 400), st.integers(0, 8))
def test_damaged_bytes_are_read_as_the_contract_reads_them(
    damage: bytes, at: int, cut: int
) -> None:
    value = dump(usage(labels={"team": "a"}))

    agrees(value[:at] + damage + value[at + cut :])


@pytest.mark.parametrize(
    "value",
    [
        b'{"type":"usage"}',
        dump(usage()).replace(b'"type":"usage",', b""),
        dump(usage()) + b" ",
        b"\xef\xbb\xbf" + dump(usage()),
        dump(usage()).replace(b'"seq":0', b'"seq":0.0'),
        dump(usage()).replace(b'"seq":0', b'"seq":1,"seq":0'),
        dump(usage()).replace(b'"run-1"', b'"run-\xff"'),
        dump(usage()).replace(b'"run-1"', b'"\\ud800"'),
        dump(usage(output_tokens=5, reasoning_tokens=5)),
        dump(usage(output_tokens=5)).replace(b'"reasoning_tokens":0', b'"reasoning_tokens":6'),
    ],
)
def test_unusual_spellings_agree(value: bytes) -> None:
    agrees(value)


def test_the_types_are_checked() -> None:
    assert set(typing.get_args(Usage.model_fields["usage_quality"].annotation)) == {
        *("reported", "partial", "estimated", "missing")
    }
    assert decode_call(dump(usage()).replace(b'"reported"', b'"guessed"')) is None
