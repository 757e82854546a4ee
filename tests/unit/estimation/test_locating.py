"""Places: region, zone, country, world, each with the codes that say what stood in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.estimation import shipped_factor_set
from marlin.estimation.locating import Locator
from marlin.estimation.overrides import overlay

LOCATOR = Locator(shipped_factor_set())
LISTED = [
    region
    for region in shipped_factor_set().regions.values()
    if region.provider in {"aws", "gcp", "azure"}
]


def test_a_region_with_values_of_its_own() -> None:
    place = LOCATOR.locate("aws", "us-west-2")
    assert place.intensity.value == 119.76
    assert (place.intensity.key, place.intensity.basis) == ("US-NW-BPAT", "lifecycle")
    assert place.pue.value == 1.12
    assert place.onsite_water is not None
    assert (place.onsite_water.value, place.onsite_water.basis) == (0.16, "withdrawal")
    assert place.offsite_water.value == 9.5
    assert place.codes == ("water_onsite_withdrawal",)


@pytest.mark.parametrize(
    ("provider", "name", "key"),
    [
        ("aws", "us-east-1", "aws:us-east-1"),
        ("bedrock", "US-EAST-1", "aws:us-east-1"),
        ("", "us-east-1b", "aws:us-east-1"),
        ("", "aws:eu-west-1", "aws:eu-west-1"),
        ("azure", "East US 2", "azure:eastus2"),
        ("azure", "westeurope", "azure:westeurope"),
        ("vertex_ai", "europe_west4", "gcp:europe-west4"),
        ("aws", "Frankfurt", "aws:eu-central-1"),
        ("gcp", "us-central1", "gcp:us-central1"),
        ("gcp", "us-central1-a", "gcp:us-central1"),
    ],
)
def test_spellings_of_regions(provider: str, name: str, key: str) -> None:
    assert LOCATOR.locate(provider, name).region.key == key


@pytest.mark.parametrize("name", ["FR", "fra", "France"])
def test_a_country_keeps_the_callers_fleet(name: str) -> None:
    place = LOCATOR.locate("gcp", name)
    assert place.intensity.value == 52.87
    assert place.pue.value == 1.09
    assert "region_country" in place.codes
    assert "pue_fleet" in place.codes


def test_a_zone_alone() -> None:
    place = LOCATOR.locate("", "US-CAL-CISO")
    assert place.intensity.value == 261.28
    assert place.codes == ("region_zone", "pue_world", "water_onsite_unknown")


def test_a_zone_without_a_value_takes_the_country() -> None:
    place = LOCATOR.locate("azure", "westus2")
    assert (place.intensity.value, place.intensity.scope) == (384.4, "country")
    assert "intensity_country" in place.codes


@pytest.mark.parametrize(("name", "code"), [("", "region_missing"), ("mars", "region_unknown")])
def test_the_world_stands_in(name: str, code: str) -> None:
    place = LOCATOR.locate("somebody", name)
    assert (place.intensity.value, place.intensity.scope) == (458.3, "world")
    assert place.codes == (
        code,
        "region_world",
        "intensity_world",
        "pue_world",
        "water_onsite_unknown",
        "water_offsite_world",
    )


def test_every_listed_region_is_located() -> None:
    assert len(LISTED) >= 68
    for region in LISTED:
        place = LOCATOR.locate(region.provider, region.region)
        assert place.region is region
        assert "region_unknown" not in place.codes
        assert place.intensity.basis == "lifecycle"
        assert 1 <= place.pue.value < 2


@pytest.mark.parametrize(
    ("provider", "basis"),
    [("aws", "withdrawal"), ("gcp", "consumption"), ("azure", "unstated")],
)
def test_each_operator_has_its_own_water_basis(provider: str, basis: str) -> None:
    for region in LISTED:
        if region.provider == provider:
            place = LOCATOR.locate(provider, region.region)
            assert place.onsite_water is not None
            assert place.onsite_water.basis == basis
            assert place.offsite_water.basis == "consumption"


def test_market_based_intensity_is_a_memo_of_a_users_file() -> None:
    assert LOCATOR.locate("aws", "eu-west-1").market_intensity is None
    text = """
[[places]]
scope = "region"
key = "aws:eu-west-1"
quantity = "intensity"
basis = "market"
value = 12.5
unit = "gCO2e/kWh"
source = "Supplier contract"
date = "2026"
licence = "own"
"""
    place = Locator(overlay(shipped_factor_set(), text, "own")).locate("aws", "eu-west-1")
    assert place.market_intensity is not None
    assert place.market_intensity.value == 12.5
    assert place.intensity.value == 403.4


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_names_are_located(provider: str, region: str) -> None:
    place = LOCATOR.locate(provider, region)
    assert place.intensity.value > 0
    assert place.pue.value >= 1
