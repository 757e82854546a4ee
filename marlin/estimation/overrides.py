"""A user's own models, regions and factors: one TOML file over the shipped set.

    [factors.host_overhead]        # overrides a value; the unit must stay
    value = 1.3
    low = 1.2
    high = 1.5
    unit = "1"
    source = "Rack meters, May 2026"
    date = "2026-05"
    licence = "own"

    [models.acme-chat-34b]
    active_params_b = 34
    source = "Our model card"
    date = "2026-03"
    licence = "own"

    [regions."onprem:berlin"]
    location = "Berlin"
    country = "DEU"
    zone = "DE"
    source = "Our data centre"
    date = "2026-01"
    licence = "own"

    [[places]]
    scope = "region"
    key = "onprem:berlin"
    quantity = "pue"
    value = 1.31
    unit = "1"
    basis = "annual"
    source = "Facility meters, 2025"
    date = "2025"
    licence = "own"

Rows take the columns of the shipped file of the same name; `tier` is `user` unless given.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeGuard

from marlin.errors import EstimationError
from marlin.estimation.catalogue import parse_model
from marlin.estimation.factors import parse_factor
from marlin.estimation.factorset import FactorSet, columns_of, shipped_factor_set
from marlin.estimation.hardware import parse_accelerator
from marlin.estimation.places import parse_place_factor, parse_region
from marlin.estimation.tables import Row

__all__ = ["load_factor_set", "overlay"]

_TABLES = {
    "factors": ("factors.csv", "name"),
    "hardware": ("hardware.csv", "name"),
    "models": ("models.csv", "id"),
    "regions": ("regions.csv", "region"),
    "places": ("places.csv", ""),
}
_MODEL_DEFAULTS = {"vendor": "own", "kind": "open", "status": "active", "precision": "bf16"}


def load_factor_set(path: Path, base: FactorSet | None = None) -> FactorSet:
    """The shipped set (or `base`) with the file's rows over it.

    Raises EstimationError where the file cannot be read or a row is unfit; nothing of it is used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise EstimationError(f"{path}: cannot be read ({exc}); no factors were changed") from exc
    return overlay(shipped_factor_set() if base is None else base, text, str(path))


def overlay(base: FactorSet, text: str, name: str) -> FactorSet:
    """`base` with the rows of a TOML text over it; its version names the text's hash too."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise EstimationError(f"{name}: not TOML ({exc}); no factors were changed") from exc
    if unknown := sorted(set(tables) - set(_TABLES)):
        raise EstimationError(
            f"{name}: table {unknown[0]!r} is not known, expected one of "
            f"{', '.join(_TABLES)}; no factors were changed"
        )
    factors = {row.text("name"): parse_factor(row) for row in _rows(tables, "factors", name)}
    for factor in factors.values():
        shipped = base.factor(factor.name)
        if shipped.unit != factor.unit:
            raise EstimationError(
                f"{name}: factor {factor.name} is in {factor.unit!r}, expected {shipped.unit!r}; "
                "no factors were changed"
            )
    hardware = [parse_accelerator(row) for row in _rows(tables, "hardware", name)]
    models = [parse_model(row) for row in _rows(tables, "models", name)]
    regions = [parse_region(row) for row in _rows(tables, "regions", name)]
    places = [parse_place_factor(row) for row in _rows(tables, "places", name)]
    return replace(
        base,
        version=f"{base.version}+{blake2b(text.encode(), digest_size=4).hexdigest()}",
        factors={**base.factors, **factors},
        accelerators={**base.accelerators, **{one.name: one for one in hardware}},
        models={**base.models, **{one.name: one for one in models}},
        regions={**base.regions, **{one.key: one for one in regions}},
        places={**base.places, **{one.identity: one for one in places}},
    )


def _rows(tables: Mapping[str, Any], table: str, name: str) -> list[Row]:
    content = tables.get(table, {})
    if _is_list(content):
        entries = [(str(index), entry) for index, entry in enumerate(content)]
    elif _is_table(content):
        entries = list(content.items())
    else:
        raise EstimationError(f"{name}: {table} is no table; no factors were changed")
    return [_row(table, key, entry, f"{name}: {table}.{key}") for key, entry in entries]


def _row(table: str, key: str, entry: Any, place: str) -> Row:
    file, key_column = _TABLES[table]
    if not _is_table(entry):
        raise EstimationError(f"{place}: expected a table of fields; no factors were changed")
    fields = {"tier": "user"}
    if table == "models":
        fields |= _MODEL_DEFAULTS
    if table == "regions":
        provider, _, region = key.partition(":")
        fields |= {"provider": provider, "region": region}
    elif key_column:
        fields[key_column] = key
    for column, value in entry.items():
        if column not in columns_of(file):
            raise EstimationError(
                f"{place}: field {column!r} is not known; no factors were changed"
            )
        fields[column] = _text(value)
    if table == "models":
        fields.setdefault("total_params_b", fields.get("active_params_b", ""))
    return Row(place, fields)


def _text(value: Any) -> str:
    return ";".join(str(one) for one in value) if _is_list(value) else str(value)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_table(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
