"""JSON Schema of the contracts: what a producer must send.

The pipeline reads a little more and a little less than JSON Schema can say. Refused though valid:
a count written as `1.0`, `reasoning_tokens` above `output_tokens`, a day that its month has not,
an `hour` of the grid with minutes.
Accepted though not valid: some other spellings of a UTC time, such as a space for the `T`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

import orjson
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from marlin.schemas.base import Contract
from marlin.schemas.deadletter import DeadLetter
from marlin.schemas.wire import dump

__all__ = ["as_json", "header_example", "header_schema", "json_schema"]

_UTC_TIME = (
    r"^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|\+00:00)$"
)


class _Generator(GenerateJsonSchema):
    """Pydantic's JSON Schema, with what strict readers need to be told."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No titles that only repeat the field's name."""
        return False

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        """Times are in UTC; `format: date-time` alone would allow any offset."""
        return {"type": "string", "format": "date-time", "pattern": _UTC_TIME}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Without OpenAPI's `discriminator`: the constant `type` of each member tells enough."""
        union = super().tagged_union_schema(schema)
        union.pop("discriminator", None)
        return union

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """`type` is required on the wire, and attribute docstrings describe the fields."""
        generated = super().model_schema(schema)
        properties: dict[str, Any] = generated.get("properties", {})
        if "const" in properties.get("type", {}):
            properties["type"].pop("default", None)
            generated["required"] = ["type", *generated.get("required", [])]
        for name, description in _field_docs(schema["cls"]).items():
            properties[name].setdefault("description", description)
        return generated


def _field_docs(model: type[Any]) -> dict[str, str]:
    """The docstring under each field, as its source has it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = " ".join(text.split())
            case _:
                pass
    return docs


def as_json(record: Contract) -> dict[str, Any]:
    """The record as a reader of its JSON sees it."""
    decoded: dict[str, Any] = orjson.loads(dump(record))
    return decoded


def json_schema(model: type[Contract], ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a producer of `model` sends."""
    return model.model_json_schema(schema_generator=_Generator, ref_template=ref_template)


def header_schema() -> dict[str, Any]:
    """The JSON Schema of a dead letter's headers, each decoded as UTF-8."""
    model = json_schema(DeadLetter)
    numbers = {"type": "string", "pattern": "^[0-9]+$"}
    model["properties"] = {
        f"marlin.{name}": numbers if field.get("type") == "integer" else field
        for name, field in model["properties"].items()
    }
    model["required"] = [f"marlin.{name}" for name in model["required"]]
    # Headers that the refused record had of its own stay with it.
    model["additionalProperties"] = True
    return model


def header_example(letter: DeadLetter) -> dict[str, str]:
    """A dead letter's headers, decoded."""
    return {name: value.decode() for name, value in letter.to_headers()}
