"""Whether a document is valid against a JSON Schema (2020-12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validate

__all__ = ["is_valid"]


def is_valid(schema: Mapping[str, Any], document: Any) -> bool:
    """Whether `schema` accepts `document`."""
    try:
        validate(document, schema, cls=Draft202012Validator)
    except ValidationError:
        return False
    return True
