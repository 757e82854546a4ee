"""Every row of every factor file keeps its value, unit and citation from disk to use."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import pytest

from marlin.estimation import shipped_factor_set
from marlin.estimation.tables import Citation

SET = shipped_factor_set()
TIERS = {"primary", "secondary", "fit", "estimate", "judgement"}


def table(name: str) -> list[dict[str, str]]:
    text = (files("marlin.estimation") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def place_key(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    return row["scope"], row["key"], row["quantity"], row["basis"]


def named(row: Mapping[str, str]) -> str:
    return row["name"]


def identified(row: Mapping[str, str]) -> str:
    return row["id"]


def located(row: Mapping[str, str]) -> str:
    return f"{row['provider']}:{row['region']}"


Key = Callable[[Mapping[str, str]], object]
LOADED: list[tuple[str, Mapping[Any, Any], Key]] = [
    ("fit.csv", SET.factors, named),
    ("factors.csv", SET.factors, named),
    ("hardware.csv", SET.accelerators, named),
    ("models.csv", SET.models, identified),
    ("regions.csv", SET.regions, located),
    ("places.csv", SET.places, place_key),
]


@pytest.mark.parametrize(("name", "loaded", "key"), LOADED, ids=[name for name, _, _ in LOADED])
def test_citations_survive_loading(name: str, loaded: Mapping[Any, Any], key: Key) -> None:
    rows = table(name)
    assert rows
    for row in rows:
        citation = loaded[key(row)].citation
        assert citation == Citation(row["source"], row["date"], row["licence"], row["tier"])
        assert citation.tier in TIERS
        assert len(citation.source) > 5 or citation.tier == "judgement", row
        assert citation.date[:4].isdigit()
        assert 1990 <= int(citation.date[:4]) <= 2026


@pytest.mark.parametrize("name", ["fit.csv", "factors.csv"])
def test_scalar_values_and_units_survive_loading(name: str) -> None:
    for row in table(name):
        factor = SET.factors[row["name"]]
        assert (factor.value, factor.unit) == (float(row["value"]), row["unit"])


def test_place_values_and_units_survive_loading() -> None:
    units = {
        "intensity": "gCO2e/kWh",
        "pue": "1",
        "wue": "L/kWh IT",
        "ewif": "L/kWh",
        "water_stress": "0-5",
    }
    for row in table("places.csv"):
        factor = SET.places[place_key(row)]
        assert (factor.value, factor.unit) == (float(row["value"]), row["unit"])
        assert factor.unit == units[factor.quantity]


def test_water_bases_are_declared() -> None:
    bases = {row["basis"] for row in table("places.csv") if row["quantity"] == "wue"}
    assert bases == {"consumption", "withdrawal", "unstated"}


def test_every_region_of_the_three_clouds_has_a_country_with_an_intensity() -> None:
    countries = {row["key"] for row in table("places.csv") if row["scope"] == "country"}
    assert {row["country"] for row in table("regions.csv")} <= countries


def test_the_fit_records_the_error_it_leaves() -> None:
    for row in table("fit.csv"):
        assert "Held-out families: median ratio" in row["note"]
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
