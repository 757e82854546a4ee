"""What a candidate region is: its place in the factor set, and what a job costs there."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from marlin.errors import RoutingError
from marlin.estimation import FactorSet
from marlin.estimation.locating import COUNTRY, Locator
from marlin.estimation.places import Place

__all__ = ["Site", "Sites", "stress_class"]

_CLASSES = ((1.0, "low"), (2.0, "low-medium"), (3.0, "medium-high"), (4.0, "high"))


def stress_class(score: float | None) -> str | None:
    """The class of a baseline water stress score from 0 to 5.

    Source: Aqueduct 4.0 (Kuzma et al. 2023), categories of baseline water stress, whose scores
    are one class wide each. None: the score is unknown.
    """
    if score is None:
        return None
    return next((name for below, name in _CLASSES if score < below), "extremely high")


@dataclass(frozen=True, slots=True)
class Site:
    """A candidate, with every number that does not change from hour to hour."""

    name: str
    """As the caller wrote it."""
    place: Place

    @property
    def zone(self) -> str:
        """Electricity Maps zone; empty where only the country is known."""
        return self.place.region.zone

    @property
    def pue(self) -> float:
        """Data-centre energy over IT energy [1]."""
        return self.place.pue.value

    @property
    def yearly_g_per_kwh(self) -> float:
        """Average lifecycle intensity of the year [gCO2e/kWh]."""
        return self.place.intensity.value

    @property
    def water_l_per_kwh(self) -> float:
        """Consumption per kWh of the data centre [L/kWh]: where the electricity is made, and
        on-site where the operator publishes consumption (per IT kWh, so divided by PUE)."""
        onsite = self.place.onsite_water
        counted = onsite.value / self.pue if onsite and onsite.basis == "consumption" else 0.0
        return self.place.offsite_water.value + counted

    @property
    def water_stress(self) -> float | None:
        """Baseline water stress, 0 (none) to 5; None where unknown."""
        return self.place.water_stress.value if self.place.water_stress else None

    def remarks(self) -> list[str]:
        """What is worth knowing of the water figure and of what stands in."""
        said: list[str] = []
        onsite = self.place.onsite_water
        if onsite is None:
            said.append("on-site water is not published: not counted")
        elif onsite.basis != "consumption":
            said.append(
                f"on-site water is published as {onsite.basis} ({onsite.value:g} L per IT kWh): "
                "not counted as consumption"
            )
        if "water_offsite_world" in self.place.codes:
            said.append("water of electricity: the world's average stands in")
        if self.water_stress is None:
            said.append("water stress unknown")
        return said


class Sites:
    """Finds candidates by name in one factor set."""

    def __init__(self, factor_set: FactorSet) -> None:
        self._locator = Locator(factor_set)
        self._names = sorted({region.region for region in factor_set.regions.values()})

    def find(self, name: str) -> Site:
        """The site of `region` or `provider:region`; grid zones and countries are sites too.

        Raises RoutingError, naming near matches, for a name that is none of these.
        """
        provider, _, region = name.strip().rpartition(":")
        place = self._locator.locate(provider, region)
        unknown = {"region_unknown", "region_missing"} & set(place.codes)
        clouded = provider and place.region.provider not in {provider.lower(), COUNTRY}
        if unknown or (clouded and place.region.region):
            near = get_close_matches(region.lower(), self._names, n=3, cutoff=0.7)
            hint = f"; did you mean {' or '.join(near)}?" if near and region not in near else "."
            where = f" of provider {provider!r}" if provider else ""
            raise RoutingError(f"region {region!r}{where} is unknown{hint} Nothing was chosen")
        return Site(name.strip(), place)
