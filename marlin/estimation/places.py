"""Places: grid intensity, PUE and water of a region, and what stands in where one is missing."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.estimation.tables import Citation, Row

__all__ = ["Place", "PlaceFactor", "Region", "parse_place_factor", "parse_region"]

WORLD = "WORLD"


@dataclass(frozen=True, slots=True)
class Region:
    """A cloud region, or as much of a place as a name tells: a zone or a country alone."""

    provider: str
    region: str
    location: str
    country: str
    """ISO 3166-1 alpha-3, or `WORLD`."""
    zone: str
    """Electricity Maps zone, empty where only the country is known."""
    subregion: str
    """eGRID subregion (United States), else empty."""
    aliases: tuple[str, ...]
    citation: Citation

    @property
    def key(self) -> str:
        """`provider:region`."""
        return f"{self.provider}:{self.region}"


@dataclass(frozen=True, slots=True)
class PlaceFactor:
    """One value of one place: a row of `places.csv`."""

    scope: str
    key: str
    quantity: str
    value: float
    unit: str
    basis: str
    citation: Citation
    note: str

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """`(scope, key, quantity, basis)`: what makes it the only one of its kind."""
        return self.scope, self.key, self.quantity, self.basis


@dataclass(frozen=True, slots=True)
class Place:
    """What the equations take of a region, after fallbacks; each value keeps its row."""

    region: Region
    intensity: PlaceFactor
    pue: PlaceFactor
    onsite_water: PlaceFactor | None
    offsite_water: PlaceFactor
    water_stress: PlaceFactor | None
    market_intensity: PlaceFactor | None
    """Market-based intensity, a memo beside the headline; only where a user's file has one."""
    codes: tuple[str, ...]


def parse_region(row: Row) -> Region:
    """A row of `regions.csv`; raises EstimationError where it is unfit."""
    return Region(
        row.text("provider"),
        row.text("region"),
        row.text("location"),
        row.text("country"),
        row.optional_text("zone"),
        row.optional_text("subregion"),
        row.names("aliases"),
        row.citation(),
    )


def parse_place_factor(row: Row) -> PlaceFactor:
    """A row of `places.csv`; raises EstimationError where it is unfit."""
    return PlaceFactor(
        row.text("scope"),
        row.text("key"),
        row.text("quantity"),
        row.number("value"),
        row.text("unit"),
        row.text("basis"),
        row.citation(),
        row.optional_text("note"),
    )
