"""One way to run a job: a region and a start, with its figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["RegionChoice"]


@dataclass(frozen=True, slots=True)
class RegionChoice:
    """A region, ranked. Of the chosen one `reasons` tell why and `alternatives` hold the rest."""

    region: str
    """The candidate, as the caller wrote it."""
    carbon_intensity_g_kwh: float
    """Of the electricity, mean over the job's hours [gCO2e/kWh]."""
    carbon_source: str
    """Who says so, and what for."""
    pue: float
    """Data-centre energy over IT energy [1]: the same job takes more energy where it is higher."""
    carbon_g_per_it_kwh: float
    """Intensity times PUE [gCO2e per kWh of IT energy]: what strategies compare."""
    water_l_per_kwh: float
    """Consumption per kWh of the data centre [L/kWh]."""
    water_l_per_it_kwh: float
    """The same per kWh of IT energy [L/kWh]: what strategies compare."""
    water_stress: float | None
    """Aqueduct 4.0 baseline water stress, 0 to 5; None where unknown."""
    water_stress_class: str | None
    """Its class, `low` to `extremely high`."""
    latency_ms: float | None
    """As told to the router; None where it was not."""
    start: datetime | None
    """Begin of the hour to start in (UTC); None where only yearly averages are known: now."""
    forecast_valid_until: datetime | None
    """End of the last hour that the source's values reach (UTC); None for yearly averages."""
    score: float
    """How it ranks, less is better: see `marlin.routing.score`."""
    reasons: tuple[str, ...] = ()
    """Why it was chosen, or what speaks against it, in words."""
    alternatives: tuple[RegionChoice, ...] = ()
    """The other candidates that fit, best first; empty but for the chosen one."""
