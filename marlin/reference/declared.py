"""Every setting as it is declared in `marlin.settings`, one by one: for pages, files and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from marlin.errors import ConfigurationError
from marlin.settings import Settings

__all__ = ["Declared", "Group", "groups"]

_PREFIX = "MARLIN_"


class Declared(NamedTuple):
    """One setting."""

    name: str
    """Within its group."""
    variable: str
    """Its environment variable."""
    kind: str
    """What it takes, for people, limits included."""
    default: object
    """As JSON would have it; None where there is none."""
    about: str
    """What it is for, on one line, in Markdown."""


class Group(NamedTuple):
    """Settings that belong together."""

    name: str
    """As in its variables, lower case; empty for the settings of no group."""
    about: str
    settings: tuple[Declared, ...]


def groups(declaration: type[BaseModel] = Settings) -> list[Group]:
    """Those of no group first, then the groups, all in the order of their declaration.

    Raises `ConfigurationError` naming every setting that nobody described.
    """
    schema = declaration.model_json_schema()
    definitions: Mapping[str, Any] = schema["$defs"]
    plain: dict[str, Any] = {}
    found: list[Group] = []
    for name, field in schema["properties"].items():
        if "$ref" not in field:
            plain[name] = field
            continue
        group = definitions[field["$ref"].rpartition("/")[2]]
        variables = f"{_PREFIX}{name.upper()}__"
        found.append(Group(name, _line(group), _declared(variables, group["properties"])))
    found.insert(0, Group("", "What every command reads.", _declared(_PREFIX, plain)))
    silent = [one.variable for group in found for one in group.settings if not one.about]
    if silent:
        raise ConfigurationError(
            f"a docstring is expected under every setting; none under: {', '.join(silent)}; "
            "nothing was written"
        )
    return found


def _declared(prefix: str, fields: Mapping[str, Any]) -> tuple[Declared, ...]:
    return tuple(
        Declared(name, f"{prefix}{name.upper()}", _kind(field), field.get("default"), _line(field))
        for name, field in fields.items()
    )


def _line(schema: Mapping[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).split())


def _kind(schema: Mapping[str, Any]) -> str:
    present = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if present:
        return " or ".join(_kind(one) for one in present)
    if "enum" in schema:
        return "one of " + ", ".join(f"`{one}`" for one in schema["enum"])
    kind: str = schema["type"]
    match kind:
        case "array":
            return f"list, each {_kind(schema['items'])}" if "enum" in schema["items"] else "list"
        case "boolean":
            return "`true` or `false`"
        case "string":
            return {"path": "path", "password": "secret text"}.get(schema.get("format", ""), "text")
        case _:
            return f"{'whole number' if kind == 'integer' else 'number'}{_limits(schema)}"


def _limits(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f", {least:g} to {most:g}" if most < 1e6 else f", {least:g} to {most}"
    if least is not None:
        return f", {least} or more"
    if most is not None:
        return f", {most} or less"
    above = schema.get("exclusiveMinimum")
    return "" if above is None else f", more than {above:g}"
