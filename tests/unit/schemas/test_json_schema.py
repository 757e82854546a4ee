"""The generated JSON Schema and the contracts agree on what is accepted."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError
from validity import is_valid

from marlin.schemas import CARBON_RECORDS, EVENT, MAX_TOKENS, Command, GridRecord, examples
from marlin.schemas.generate import FAMILIES
from marlin.schemas.json_schema import as_json, header_example, header_schema, json_schema

SCHEMAS = {family: json_schema(type(example)) for family, example in FAMILIES.items()}


def contract_accepts(family: str, document: Any) -> bool:
    """Whether those who read this family on the wire take the document."""
    text = json.dumps(document).encode()
    adapters: dict[str, tuple[TypeAdapter[Any], bytes]] = {
        "carbon": (CARBON_RECORDS, b"[" + text + b"]"),
        "lifecycle": (CARBON_RECORDS, b"[" + text + b"]"),
        "command": (TypeAdapter(Command), text),
        "grid": (TypeAdapter(GridRecord), text),
    }
    adapter, wire = adapters.get(family, (EVENT, text))
    try:
        adapter.validate_json(wire)
    except ValidationError:
        return False
    return True


def changed(family: str, **changes: Any) -> dict[str, Any]:
    """The family's example with `changes`; a field changed to `...` is left out."""
    document = as_json(FAMILIES[family]) | changes
    return {name: value for name, value in document.items() if value is not ...}


@pytest.mark.parametrize("family", FAMILIES)
def test_schemas_are_valid_and_accept_their_example(family: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[family])

    assert is_valid(SCHEMAS[family], as_json(FAMILIES[family]))
    assert contract_accepts(family, as_json(FAMILIES[family]))


BOTH_REFUSE: list[tuple[str, dict[str, Any]]] = [
    ("usage", {"type": ...}),
    ("usage", {"type": "run.started"}),
    ("usage", {"surprise": 1}),
    ("usage", {"model": ...}),
    ("usage", {"model": ""}),
    ("usage", {"model": "m" * 257}),
    ("usage", {"input_tokens": -1}),
    ("usage", {"input_tokens": MAX_TOKENS + 1}),
    ("usage", {"input_tokens": "1"}),
    ("usage", {"input_tokens": 1.5}),
    ("usage", {"input_tokens": True}),
    ("usage", {"input_tokens": None}),
    ("usage", {"cost_usd": -1}),
    ("usage", {"cost_usd": False}),
    ("usage", {"time": "2026-03-01T12:00:00+01:00"}),
    ("usage", {"time": "2026-03-01T12:00:00"}),
    ("usage", {"time": "2026-13-01T12:00:00Z"}),
    ("usage", {"time": "2026-03-01T24:00:00Z"}),
    ("usage", {"time": 1772366400}),
    ("usage", {"labels": {"": "x"}}),
    ("usage", {"labels": {str(n): "x" for n in range(33)}}),
    ("usage", {"usage_quality": "guessed"}),
    ("run.started", {"policy": None}),
    ("run.started", {"policy": {"carbon_budget_g": -1}}),
    ("run.started", {"policy": {"warn_at": [0]}}),
    ("run.started", {"policy": {"surprise": 1}}),
    ("run.started", {"task": "t" * 4097}),
    ("run.finished", {"status": "running"}),
    ("run.finished", {"status": ...}),
    ("abort.acknowledged", {"overshoot_g": -0.1}),
    ("abort.acknowledged", {"outcome": "ignored"}),
    ("carbon", {"source": "somewhere"}),
    ("carbon", {"energy_wh": None}),
    ("carbon", {"usage": ...}),
    ("carbon", {"run_calls": None}),
    ("carbon", {"quality": "code"}),
    ("lifecycle", {"event": {"type": "usage"}}),
    ("lifecycle", {"event": None}),
    ("command", {"action": "destroy"}),
    ("command", {"reason": ""}),
    ("command", {"issued_at": "2026-03-01T12:00:00+02:00"}),
]


@pytest.mark.parametrize(("family", "changes"), BOTH_REFUSE)
def test_both_refuse(family: str, changes: dict[str, Any]) -> None:
    document = changed(family, **changes)

    assert not is_valid(SCHEMAS[family], document)
    assert not contract_accepts(family, document)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("usage", {"input_tokens": MAX_TOKENS}),
        ("usage", {"latency_s": 0, "cost_usd": None, "labels": {}}),
        ("usage", {"time": "2026-03-01T12:00:00.123456789+00:00"}),
        ("usage", {"cache_read_tokens": ..., "reasoning_tokens": ..., "tenant": ...}),
        ("run.started", {"policy": ...}),
        ("run.started", {"policy": {"carbon_budget_g": None, "warn_at": [0.5, 1]}}),
        ("run.finished", {"status": "failed", "reason": None}),
        ("carbon", {"run_calls": 0, "quality": []}),
        ("command", {"budget_g": None, "caused_by": ...}),
    ],
)
def test_both_accept(family: str, changes: dict[str, Any]) -> None:
    document = changed(family, **changes)

    assert is_valid(SCHEMAS[family], document)
    assert contract_accepts(family, document)


def test_what_json_schema_cannot_say() -> None:
    for changes in (
        {"input_tokens": 1200.0},
        {"reasoning_tokens": 351},
        {"time": "2026-02-30T12:00:00Z"},
    ):
        document = changed("usage", **changes)
        assert is_valid(SCHEMAS["usage"], document)
        assert not contract_accepts("usage", document)


def test_the_pipeline_reads_other_spellings_of_utc() -> None:
    document = changed("usage", time="2026-03-01 12:00:00Z")

    assert not is_valid(SCHEMAS["usage"], document)
    assert contract_accepts("usage", document)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 2**60)
    # An integral float is an integer to JSON Schema, see above.
    | st.floats(-10, 1e12).filter(lambda number: not number.is_integer())
    | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def _differ_by_design(family: str, document: dict[str, Any]) -> bool:
    if family in ("command", "grid") and "type" not in document:
        return True  # readers of these topics know what they carry
    if family == "usage":
        reasoning, output = document.get("reasoning_tokens"), document.get("output_tokens")
        return type(reasoning) is int and type(output) is int and reasoning > output
    return False


@given(data=st.data(), family=st.sampled_from(sorted(FAMILIES)))
def test_they_agree_on_any_change_of_a_field(data: st.DataObject, family: str) -> None:
    document: dict[str, Any] = copy.deepcopy(as_json(FAMILIES[family]))
    times = [name for name in document if name in ("time", "hour") or name.endswith("_at")]
    fields = [*sorted(document.keys() - set(times)), "surprise"]
    field = data.draw(st.sampled_from(fields))
    if data.draw(st.booleans()):
        document[field] = data.draw(JSON_VALUES)
    else:
        document.pop(field, None)
    assume(not _differ_by_design(family, document))

    assert is_valid(SCHEMAS[family], document) == contract_accepts(family, document)


@given(moment=st.datetimes(), zone=st.sampled_from(["Z", "+00:00", "+02:00", "-00:30", ""]))
def test_they_agree_on_times(moment: Any, zone: str) -> None:
    document = changed("usage", time=moment.isoformat() + zone)
    expected = zone in ("Z", "+00:00")

    assert is_valid(SCHEMAS["usage"], document) is expected
    assert contract_accepts("usage", document) is expected


def test_headers_of_a_dead_letter_have_a_schema() -> None:
    schema = header_schema()
    headers = header_example(examples.DEAD_LETTER)

    assert is_valid(schema, headers)
    assert is_valid(schema, {**headers, "trace": "of the producer's own"})
    assert not is_valid(schema, {**headers, "marlin.offset": "-1"})
    assert not is_valid(schema, {**headers, "marlin.step": "lunch"})
    assert not is_valid(schema, {k: v for k, v in headers.items() if k != "marlin.reason"})


def test_fields_carry_their_docstrings() -> None:
    seq = json_schema(type(examples.USAGE))["properties"]["seq"]

    assert seq["description"].startswith("Counts up by 1 per (producer_id, run_id), from 0.")
    assert "title" not in seq


def test_numbers_that_are_not_numbers_have_no_json() -> None:
    document = changed("usage", cost_usd=math.nan)

    assert not contract_accepts("usage", document)
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_out_means_the_default_in_the_schema(family: str) -> None:
    """A reader of the schema fills in what the pipeline would."""
    document = as_json(FAMILIES[family])
    properties = json_schema(type(FAMILIES[family]))["properties"]
    optional = {name: field["default"] for name, field in properties.items() if "default" in field}
    minimal = {name: value for name, value in document.items() if name not in optional}
    model = type(FAMILIES[family])

    assert model.model_validate_json(json.dumps(minimal)) == model.model_validate_json(
        json.dumps(minimal | optional)
    )
