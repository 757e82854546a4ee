"""A query's parameters on their way to it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import QueryError
from marlin.sinks.parameters import decode_params, encode_params

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**127), 2**127)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.datetimes(timezones=st.sampled_from([None, UTC])).map(lambda at: at.replace(fold=0))
    | st.dates()
    | st.times().map(lambda at: at.replace(fold=0))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)


@given(
    st.lists(
        st.recursive(
            VALUES,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner),
            max_leaves=5,
        )
    )
)
def test_they_arrive_as_they_were_given(params: list[Any]) -> None:
    read = decode_params(orjson.loads(orjson.dumps(encode_params(params))))
    assert read == params
    assert repr(read) == repr(params)


def test_named_ones_and_none() -> None:
    named = {"a": datetime(2026, 5, 1, tzinfo=UTC), "b": [Decimal("1.50"), date(2026, 5, 1)]}
    assert decode_params(orjson.loads(orjson.dumps(encode_params(named)))) == named
    assert encode_params(None) is decode_params(None) is None
    others = (UUID(int=1), time(1, 2), timedelta(microseconds=-1), bytearray(b"\xff"))
    assert decode_params(encode_params(others)) == [*others[:3], b"\xff"]


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j])
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises(QueryError, match=f"a parameter is a {type(value).__name__}; expected"):
        encode_params([value])


def test_a_text_is_no_list() -> None:
    with pytest.raises(QueryError, match="not one text"):
        encode_params("abc")


@pytest.mark.parametrize(
    "wrong",
    [
        *(3, "abc", [{"marlin:type": "nothing", "value": "1"}], [{"marlin:type": "int"}]),
        *([{"marlin:type": "datetime", "value": "yesterday"}], [{"marlin:type": [], "value": 1}]),
        *([{"marlin:type": "decimal", "value": "x"}], [{"marlin:type": "bytes", "value": None}]),
    ],
)
def test_what_was_not_encoded_is_refused(wrong: Any) -> None:
    with pytest.raises(QueryError, match=r"cannot be read|expected params"):
        decode_params(wrong)
