"""From a region's name to its numbers: region, else zone, else country, else world, with codes."""

from __future__ import annotations

import re
from dataclasses import replace

from marlin.estimation.factorset import FactorSet
from marlin.estimation.places import WORLD, Place, PlaceFactor, Region
from marlin.estimation.tables import Citation

__all__ = ["Locator"]

_NAMED = Citation("the name given by the caller", "now", "own", "user")
COUNTRY = "country"
"""Provider of the rows that are a country alone."""
INTENSITY_BASIS = "lifecycle"
"""The one basis of headline carbon: average, lifecycle, location-based. Others are memo values."""


class Locator:
    """Finds the place that a region's name means. Built once per factor set; holds no cache."""

    def __init__(self, factor_set: FactorSet) -> None:
        self._set = factor_set
        self._regions: dict[str, list[Region]] = {}
        self._zones: dict[str, Region] = {}
        for region in factor_set.regions.values():
            for name in (region.region, region.key, *region.aliases):
                self._regions.setdefault(_key(name), []).append(region)
            if region.zone and region.zone not in self._zones:
                self._zones.setdefault(
                    _key(region.zone), _only(zone=region.zone, country=region.country)
                )

    def locate(self, provider: str, region: str) -> Place:
        """The place with every value filled; never raises. Codes say which values stand in."""
        found, codes = self._find(provider, region)
        picked: list[str] = list(codes)
        intensity = self._intensity(found, picked)
        pue = self._pue(found, picked)
        onsite = self._onsite_water(found, picked)
        offsite = self._offsite_water(found, picked)
        stress = self._first(
            "water_stress",
            "aqueduct-bws",
            [("region", found.key), ("country", found.country)],
        )
        market = self._first(
            "intensity", "market", [("region", found.key), ("provider", found.provider)]
        )
        return Place(found, intensity, pue, onsite, offsite, stress, market, tuple(picked))

    def _find(self, provider: str, region: str) -> tuple[Region, tuple[str, ...]]:
        key = _key(region)
        # An availability zone (us-east-1a) is in its region.
        for name in (key, re.sub(r"(?<=\d)-?[a-z]$", "", key), key.replace("-", "")):
            if candidates := self._regions.get(name):
                same = [r for r in candidates if r.provider == _cloud(provider)]
                found = (same or candidates)[0]
                if found.provider != COUNTRY:
                    return found, ()
                return replace(found, provider=_cloud(provider)), ("region_country",)
        if zone := self._zones.get(key):
            return replace(zone, provider=_cloud(provider)), ("region_zone",)
        return _only(country=WORLD, provider=_cloud(provider)), (
            ("region_unknown", "region_world") if key else ("region_missing", "region_world")
        )

    def _first(
        self, quantity: str, basis: str, scopes: list[tuple[str, str]]
    ) -> PlaceFactor | None:
        for scope, key in scopes:
            if found := self._set.places.get((scope, key, quantity, basis)):
                return found
        return None

    def _require(self, quantity: str, basis: str, scopes: list[tuple[str, str]]) -> PlaceFactor:
        found = self._first(quantity, basis, [*scopes, ("world", WORLD)])
        assert found is not None, f"factor set without a world value of {quantity} ({basis})"
        return found

    def _intensity(self, region: Region, codes: list[str]) -> PlaceFactor:
        found = self._require(
            "intensity", INTENSITY_BASIS, [("zone", region.zone), ("country", region.country)]
        )
        if found.scope != "zone":
            codes.append(f"intensity_{found.scope}")
        return found

    def _pue(self, region: Region, codes: list[str]) -> PlaceFactor:
        found = self._require(
            "pue", "annual", [("region", region.key), ("provider", region.provider)]
        )
        if found.scope != "region":
            codes.append("pue_fleet" if found.scope == "provider" else "pue_world")
        return found

    def _onsite_water(self, region: Region, codes: list[str]) -> PlaceFactor | None:
        for scope, key in (("region", region.key), ("provider", region.provider)):
            for basis in ("consumption", "withdrawal", "unstated"):
                found = self._first("wue", basis, [(scope, key)])
                if found is None:
                    continue
                if scope == "provider":
                    codes.append("water_onsite_fleet")
                if basis != "consumption":
                    codes.append(f"water_onsite_{basis}")
                return found
        codes.append("water_onsite_unknown")
        return None

    def _offsite_water(self, region: Region, codes: list[str]) -> PlaceFactor:
        found = self._require(
            "ewif",
            "consumption",
            [("subregion", region.subregion), ("country", region.country)],
        )
        if found.scope == "world":
            codes.append("water_offsite_world")
        return found


def _key(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().lower())


def _cloud(provider: str) -> str:
    """The cloud whose fleet a provider's name means; the name itself where it is none."""
    name = _key(provider)
    for cloud, words in _CLOUDS.items():
        if any(word in name for word in words):
            return cloud
    return name


_CLOUDS = {
    "aws": ("aws", "bedrock", "amazon", "sagemaker"),
    "gcp": ("gcp", "google", "vertex", "gemini"),
    "azure": ("azure", "microsoft"),
}


def _only(*, country: str, zone: str = "", provider: str = "") -> Region:
    return Region(provider, zone or country, "", country, zone, "", (), _NAMED)
