"""Carbon intensity computed from generation by fuel.

    intensity [gCO2e/kWh] = sum_f(P_f * EF_f) / sum_f(P_f)

with the power P_f [MW] of fuel f and its lifecycle emission factor EF_f [gCO2e/kWh]. What a zone
generates, not what it consumes: imports and exports are not in it. Storage is left out, since its
energy was counted when it was generated; negative power (a plant's own use) counts as none.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from marlin.grid.provider import GridValue

__all__ = ["FACTORS", "Factor", "Fuel", "Mixed", "mix", "values_of"]

Fuel = Literal[
    "biomass",
    "coal",
    "gas",
    "geothermal",
    "hydro",
    "marine",
    "nuclear",
    "oil",
    "solar",
    "unknown",
    "wind",
]


@dataclass(frozen=True, slots=True)
class Factor:
    """A lifecycle emission factor."""

    g_per_kwh: float
    source: str


_IPCC = "IPCC AR5 WG3 (2014), Annex III, table A.III.2, median"
FACTORS: Mapping[Fuel, Factor] = {
    "biomass": Factor(230, f"{_IPCC}, dedicated biomass"),
    "coal": Factor(820, f"{_IPCC}, pulverised coal"),
    "gas": Factor(490, f"{_IPCC}, combined cycle"),
    "geothermal": Factor(38, _IPCC),
    "hydro": Factor(24, _IPCC),
    "marine": Factor(17, f"{_IPCC}, ocean"),
    "nuclear": Factor(12, _IPCC),
    "oil": Factor(650, "UK Parliamentary Office of Science and Technology (2006), postnote 268"),
    "solar": Factor(45, f"{_IPCC}: between utility (48) and rooftop (41) photovoltaics"),
    "unknown": Factor(700, "assumed mixture of fossil fuels, as Electricity Maps takes it (2024)"),
    "wind": Factor(11, f"{_IPCC}, onshore (offshore: 12)"),
}

_NEGLIGIBLE = 0.05
"""A judgement: a fuel whose report is late, and that was this share of the mix or more when it was
last reported, makes the hour's value wrong rather than rough."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """The intensity of one hour."""

    intensity_g_per_kwh: float
    complete: bool
    """Whether every code that the answer has at any hour reported this one."""


def mix(
    reported: Mapping[str, Mapping[datetime, float]], fuels: Mapping[str, Fuel]
) -> dict[datetime, Mixed]:
    """The intensity of every hour, in order, from power [MW] by a source's code and hour.

    `fuels` says what the codes mean; others are unknown. An hour is left out where nothing was
    generated, and where codes are missing that had a share of 5 % or more, by their reports nearest
    in time: late data must not look like a clean hour.
    """
    times = {code: sorted(series) for code, series in reported.items()}
    hours = sorted({hour for series in reported.values() for hour in series})
    found: dict[datetime, Mixed] = {}
    for hour in hours:
        power_mw = {
            code: max(0.0, series[hour]) for code, series in reported.items() if hour in series
        }
        total_mw = math.fsum(power_mw.values())
        missing_mw = math.fsum(
            _nearest(series, times[code], hour)
            for code, series in reported.items()
            if series and hour not in series
        )
        if total_mw <= 0 or missing_mw >= _NEGLIGIBLE * (total_mw + missing_mw):
            continue
        emitted = math.fsum(
            mw * FACTORS[fuels.get(code, "unknown")].g_per_kwh for code, mw in power_mw.items()
        )
        complete = all(hour in series for series in reported.values())
        found[hour] = Mixed(emitted / total_mw, complete)
    return found


def values_of(
    mixed: Mapping[datetime, Mixed],
    *,
    zone: str,
    source: str,
    start: datetime,
    end: datetime,
    fetched_at: datetime,
) -> list[GridValue]:
    """The mixes of the hours from `start` to `end` (exclusive): average lifecycle values of `zone`,
    estimated where a small fuel has not reported yet."""
    return [
        GridValue(
            zone,
            hour,
            one.intensity_g_per_kwh,
            "lifecycle",
            "average",
            "measured" if one.complete else "estimated",
            source,
            fetched_at=fetched_at,
        )
        for hour, one in mixed.items()
        if start <= hour < end
    ]


def _nearest(series: Mapping[datetime, float], times: Sequence[datetime], hour: datetime) -> float:
    """The power [MW] at that of `times` which is nearest to `hour`."""
    after = bisect.bisect(times, hour)
    around = times[max(0, after - 1) : after + 1]
    return max(0.0, series[min(around, key=lambda at: abs(at - hour))])
