"""Rows of places: what makes one the only one of its kind."""

from __future__ import annotations

import pytest

from marlin.errors import EstimationError
from marlin.estimation import shipped_factor_set
from marlin.estimation.places import parse_place_factor, parse_region
from marlin.estimation.tables import Row

CITED = {"source": "s", "date": "d", "licence": "l", "tier": "t"}


def test_a_place_factor_is_known_by_scope_key_quantity_and_basis() -> None:
    fields = {"scope": "zone", "key": "FR", "quantity": "intensity", "value": "52.87"}
    row = Row("places.csv:2", {**fields, "unit": "gCO2e/kWh", "basis": "lifecycle", **CITED})
    factor = parse_place_factor(row)
    assert factor.identity == ("zone", "FR", "intensity", "lifecycle")
    assert (factor.value, factor.unit) == (52.87, "gCO2e/kWh")


def test_a_region_needs_a_country() -> None:
    fields = {"provider": "aws", "region": "x", "location": "y"}
    with pytest.raises(EstimationError, match="'country' is empty"):
        parse_region(Row("regions.csv:2", {**fields, **CITED}))


def test_intensities_of_different_bases_stand_apart() -> None:
    bases = {
        basis for _, _, quantity, basis in shipped_factor_set().places if quantity == "intensity"
    }
    assert bases == {"lifecycle", "operational", "direct", "marginal"}
