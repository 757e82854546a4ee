"""From rows of queries to the parts of a report. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from marlin.reports.model import (
    AdjustmentTotals,
    Amount,
    Day,
    Figure,
    ModelUse,
    PartialFigure,
    PlaceUse,
    QualityTier,
    Sci,
    StressClass,
    Totals,
    Water,
    WaterStress,
)
from marlin.reports.sources import Sources, cited, stress_class

__all__ = [
    "NO_WITHDRAWAL",
    "adjustments_of",
    "amount",
    "amounts",
    "consumed",
    "days",
    "decimal",
    "figure",
    "models",
    "number",
    "partial",
    "places",
    "sci",
    "tiers",
    "totals",
    "water_stress",
    "withdrawn",
]

Rows = Sequence[Mapping[str, Any]]

NO_WITHDRAWAL = (
    "the factor set has no withdrawal of power plants; consumption is not put in its place"
)
_TIERS = {
    1: "energy measured by the provider",
    2: "open weights at a known place",
    3: "open weights, place or hardware assumed",
    4: "a model whose vendor publishes no size",
    5: "unknown model or place: world averages",
    None: "not known: the ledger's rows of these calls were removed",
}


def number(value: Any) -> Decimal | None:
    """A query's number as a decimal; doubles by their shortest text. None stays None."""
    if value is None or isinstance(value, Decimal):
        return value
    return Decimal(repr(value))


def decimal(value: Any) -> Decimal:
    """As `number`, NULL being the sum of nothing: 0."""
    return number(value) or Decimal(0)


def amount(row: Mapping[str, Any], name: str, power: int = 0) -> Amount:
    """The range of a measure, times 10 to `power`: exact, only the point moves."""
    low, central, high = (
        decimal(row[f"{name}{end}"]).scaleb(power) for end in ("_low", "", "_high")
    )
    return Amount(low=low, central=central, high=high)


def amounts(row: Mapping[str, Any]) -> dict[str, Any]:
    """The four measures as fields."""
    return {name: amount(row, name) for name in ("energy_wh", "carbon_g", "embodied_g", "water_ml")}


def figure(of: Amount, unit: str, query: str, power: int = 0) -> Figure:
    """An amount with its unit and query, times 10 to `power`."""
    low, central, high = (value.scaleb(power) for value in (of.low, of.central, of.high))
    return Figure(low=low, central=central, high=high, unit=unit, query=query)


def add(one: Amount, other: Amount) -> Amount:
    """Both together: ends are added to ends, since the errors of the factors are systematic."""
    return Amount(
        low=one.low + other.low,
        central=one.central + other.central,
        high=one.high + other.high,
    )


def totals(row: Mapping[str, Any], query: str) -> Totals:
    """The four sums."""
    return Totals(calls=row["calls"], query=query, **amounts(row))


def adjustments_of(rows: Rows) -> tuple[AdjustmentTotals, ...]:
    """What each restatement changes."""
    names = ("restatement_id", "kind", "reason", "restated_at", "method", "factors", "calls")
    return tuple(
        AdjustmentTotals(**{**{name: row[name] for name in names}, **amounts(row)}) for row in rows
    )


def partial(
    memo: Mapping[str, Any], name: str, unit: str, missing: str, power: int = 0
) -> PartialFigure:
    """A sum of `memo` with the share of energy that it covers; `missing` says why there is none."""
    share = number(memo[f"{name}_share"])
    if memo[name] is None:
        return PartialFigure(value=None, reason=missing, energy_share=share)
    value = figure(amount(memo, name), unit, "memo", power)
    reason = None if share in (None, Decimal(1)) else f"elsewhere {missing}"
    return PartialFigure(value=value, reason=reason, energy_share=share)


def consumed(row: Mapping[str, Any], memo: Mapping[str, Any]) -> Water:
    """Water consumption: the ledger's sum, and its two sites by the factors' coefficients."""
    return Water(
        total=PartialFigure(
            value=figure(amount(row, "water_ml"), "mL", "totals"),
            reason="where on-site consumption is not published, only the high end has some",
            energy_share=None,
        ),
        on_site=partial(
            memo, "on_site_consumption_ml", "mL", "the operator publishes no consumption"
        ),
        off_site=partial(
            memo, "off_site_ml", "mL", "the factor set of these calls is not on record"
        ),
    )


def withdrawn(memo: Mapping[str, Any]) -> Water:
    """Water withdrawal: on-site where the operator publishes it, nothing else."""
    unknown = PartialFigure(value=None, reason=NO_WITHDRAWAL, energy_share=None)
    return Water(
        total=unknown,
        on_site=partial(
            memo, "on_site_withdrawal_ml", "mL", "the operator publishes no withdrawal"
        ),
        off_site=unknown,
    )


def water_stress(rows: Rows) -> WaterStress:
    """Shares of energy and water by class of water stress."""
    classes = tuple(
        StressClass(
            water_stress_class=row["stress"],
            energy_kwh=decimal(row["energy_wh"]).scaleb(-3),
            energy_share=number(row["energy_share"]),
            water_ml=decimal(row["water_ml"]),
            water_share=number(row["water_share"]),
        )
        for row in rows
    )
    high = [one for one in classes if one.water_stress_class in ("High", "Extremely High")]
    unknown = [one for one in classes if one.water_stress_class is None]
    used = any(one.energy_share is not None for one in classes)
    return WaterStress(
        high_stress_energy_share=_sum(one.energy_share for one in high) if used else None,
        high_stress_water_share=_sum(one.water_share for one in high) if used else None,
        unknown_energy_share=_sum(one.energy_share for one in unknown) if used else None,
        classes=classes,
        source="WRI Aqueduct 4.0 (Kuzma et al. 2023), baseline water stress; the places' "
        "values are cited beside them",
        query="water_stress",
    )


def _sum(values: Iterable[Decimal | None]) -> Decimal:
    return sum((value or Decimal(0) for value in values), Decimal(0))


def tiers(rows: Rows) -> tuple[QualityTier, ...]:
    """Carbon by tier of data quality."""
    return tuple(
        QualityTier(
            tier=row["tier"],
            meaning=_TIERS[row["tier"]],
            calls=row["calls"],
            carbon_g=row["carbon_g"],
            carbon_t=row["carbon_g"].scaleb(-6),
            share_of_carbon=number(row["share_of_carbon"]),
        )
        for row in rows
    )


def sci(row: Mapping[str, Any], runs: int, *, one_run: bool) -> Sci:
    """SCI = ((E * I) + M) per R: ISO/IEC 21031:2024. E * I is the location-based carbon, call by
    call with the intensity of each; R is a run, a workflow's execution.
    """
    total = add(amount(row, "carbon_g"), amount(row, "embodied_g"))
    count = 1 if one_run else runs
    value = None
    if count:
        low, central, high = (
            round(part / count, 12) for part in (total.low, total.central, total.high)
        )
        value = Amount(low=low, central=central, high=high)
    return Sci(
        value=value,
        unit="gCO2e/run",
        formula="((E * I) + M) per R, ISO/IEC 21031:2024",
        e_kwh=amount(row, "energy_wh", -3),
        i_g_per_kwh=number(row["intensity_g_per_kwh"]),
        m_g=amount(row, "embodied_g"),
        r="one run (one execution of an agent workflow)",
        r_count=count,
        query="totals, divided by the count of `runs`",
    )


def days(rows: Rows) -> tuple[Day, ...]:
    """The days with calls."""
    return tuple(Day(day=row["day"], **_uses(row)) for row in rows)


def models(rows: Rows) -> tuple[ModelUse, ...]:
    """The models, the most carbon first."""
    found = (ModelUse(provider=row["provider"], model=row["model"], **_uses(row)) for row in rows)
    return tuple(sorted(found, key=lambda one: (-one.carbon_g.central, one.provider, one.model)))


def places(rows: Rows, sources: Sources) -> tuple[PlaceUse, ...]:
    """The places, the most carbon first, each with the factors it was estimated by."""
    found: list[PlaceUse] = []
    for row in rows:
        if not row["calls"]:  # taken back by a restatement, whose factor set has a row of its own
            continue
        place = sources.place(row["provider"], row["region"], row["factors"])
        location = "not known: the factor set is not on record"
        if place is not None:
            of = place.region
            location = ", ".join(part for part in (of.location, of.country, of.zone) if part)
        found.append(
            PlaceUse(
                provider=row["provider"],
                region=row["region"],
                location=location,
                factors=row["factors"],
                carbon_intensity_g_kwh=number(row["intensity_g_per_kwh"]),
                energy_share=number(row["energy_share"]),
                water_stress_class=None if place is None else stress_class(place.water_stress),
                sources=() if place is None else cited(place),
                **_uses(row),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.carbon_g.central, one.provider, one.region)))


def _uses(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "calls": row["calls"],
        "energy_kwh": amount(row, "energy_wh", -3),
        "carbon_g": amount(row, "carbon_g"),
        "embodied_g": amount(row, "embodied_g"),
        "water_ml": amount(row, "water_ml"),
    }
