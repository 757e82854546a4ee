"""Token counts out of foreign mappings: whole numbers from 0, or a `DataError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from marlin.errors import DataError
from marlin.schemas.base import MAX_TOKENS

__all__ = ["count", "part", "parts", "required", "within_total"]


def count(usage: Mapping[str, Any], key: str) -> int:
    """The tokens under `key`; 0 where it is absent or None, as providers leave out what is zero.

    Raises `DataError` for anything but a whole number that an event can carry.
    """
    value = usage.get(key)
    if value is None:
        return 0
    # A bool is an int to Python, and no count to anyone.
    if type(value) is not int or not 0 <= value <= MAX_TOKENS:
        raise DataError(
            f"{key} is {value!r}, expected a whole number of tokens from 0 to {MAX_TOKENS}; "
            "the usage is refused"
        )
    return value


def required(usage: Mapping[str, Any], key: str) -> int:
    """The tokens under `key`, which every usage of its kind has. Raises `DataError` without it."""
    if usage.get(key) is None:
        raise DataError(f"usage without {key}; the usage is refused")
    return count(usage, key)


def part(usage: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under `key`; empty where it is absent or None. Raises `DataError` otherwise."""
    value = usage.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DataError(f"{key} is {value!r}, expected a mapping; the usage is refused")
    return cast(Mapping[str, Any], value)


def parts(usage: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The mappings listed under `key`; none where it is absent or None, `DataError` otherwise."""
    value = usage.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(
        isinstance(one, Mapping) for one in cast(list[object], value)
    ):
        raise DataError(f"{key} is {value!r}, expected a list of mappings; the usage is refused")
    return cast(list[Mapping[str, Any]], value)


def within_total(total: int, total_name: str, **parts: int) -> int:
    """What of `total` is in none of its `parts`. Raises `DataError` where they exceed it."""
    rest = total - sum(parts.values())
    if rest < 0:
        named = " + ".join(f"{name} ({value})" for name, value in parts.items())
        raise DataError(f"{named} exceed {total_name} ({total}); the usage is refused")
    return rest
