"""A report put together from the answers of its queries. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, Final

from marlin.reports import figures as of
from marlin.reports.model import (
    Breach,
    Budgets,
    Coverage,
    DataQuality,
    DeadLetters,
    Factor,
    GhgProtocol,
    Intensity,
    MethodUse,
    PlaceUse,
    ReportingPeriod,
    Restated,
    Row,
    Run,
    Tokens,
    UsageQuality,
)
from marlin.reports.queries import TOKENS, Scope
from marlin.reports.sources import Sources

__all__ = ["EXCLUSIONS", "GWP", "Answers", "assemble"]

EXCLUSIONS: Final = (
    "training and development of models",
    "end-user devices",
    "networks outside the data centre",
    "what agents run besides model calls (tools, orchestration, storage)",
)
GWP: Final = (
    "CO2e by global warming potentials over 100 years (GWP100), as each factor's source applied "
    "them; not converted to one assessment report"
)
_SCOPE: Final = "Scope 3"
_CATEGORY: Final = "1 Purchased goods and services"
_METHOD: Final = "average-data"

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the queries gave, by name, and the factor sets behind it."""

    scope: Scope
    of: Mapping[str, Rows]
    sources: Sources

    def one(self, name: str) -> Mapping[str, Any]:
        """The only row of a query."""
        return self.of[name][0]


def assemble(answers: Answers) -> dict[str, Any]:
    """The fields of a report, all but when and by what it was made."""
    totals, memo = answers.one("totals"), answers.one("memo")
    period = _period(answers)
    places = of.places(answers.of["places"], answers.sources)
    carbon = of.amount(totals, "carbon_g")
    unstated = "the operator states a basis, or publishes nothing"
    return {
        "as_of": answers.scope.as_of,
        "tenant": answers.scope.tenant,
        "reporting_period": period,
        "run": _run(answers),
        "total_emissions_g_co2e": of.figure(carbon, "gCO2e", "totals"),
        "total_emissions_t_co2e": of.figure(carbon, "tCO2e", "totals", -6),
        "energy_kwh": of.figure(of.amount(totals, "energy_wh"), "kWh", "totals", -3),
        "carbon_intensity_g_kwh": _intensity(answers, places),
        "water_withdrawn_ml": of.withdrawn(memo),
        "water_consumed_ml": of.consumed(totals, memo),
        "water_unstated_ml": of.partial(memo, "on_site_unstated_ml", "mL", unstated),
        "water_stress": of.water_stress(answers.of["water_stress"]),
        "ghg_protocol": _ghg_protocol(totals, memo),
        "sci": of.sci(
            totals, answers.one("runs")["runs"], one_run=answers.scope.run_id is not None
        ),
        "calls": totals["calls"],
        "tokens": Tokens(**{name.removesuffix("_tokens"): totals[name] for name in TOKENS}),
        "data_quality": _data_quality(answers),
        "coverage": _coverage(answers),
        "methods": _methods(answers),
        "restatements": Restated(
            as_recorded=of.totals(answers.one("recorded"), "recorded"),
            adjustments=of.adjustments_of(answers.of["adjustments"]),
            restated=of.totals(totals, "totals"),
            query="adjustments",
        ),
        "budgets": _budgets(answers),
        "by_day": of.days(answers.of["by_day"]),
        "by_model": of.models(answers.of["by_model"]),
        "places": places,
        "rows": tuple(_row(row, answers, period) for row in answers.of["rows"]),
    }


def _period(answers: Answers) -> ReportingPeriod:
    period = answers.scope.period
    if period is not None:
        start, end = (
            datetime.combine(day, time(), tzinfo=UTC) for day in (period.start, period.end)
        )
        return ReportingPeriod(label=period.label, start=start, end=end)
    run = answers.one("run")
    start, end = run["first_event_time"], run["last_event_time"]
    return ReportingPeriod(label=f"run {run['run_id']}", start=start, end=end)


def _run(answers: Answers) -> Run | None:
    if answers.scope.run_id is None:
        return None
    row = answers.one("run")
    return Run(**{name: row[name] for name in Run.model_fields})


def _intensity(answers: Answers, places: Sequence[PlaceUse]) -> Intensity:
    totals, coverage = answers.one("totals"), answers.one("coverage")
    hourly = None
    if totals["energy_wh"]:
        hourly = round(coverage["hourly_energy_wh"] / totals["energy_wh"], 6)
    averages: dict[Factor, None] = {
        factor: None
        for place in places
        for factor in place.sources
        if factor.quantity == "intensity" and factor.basis == "lifecycle"
    }
    return Intensity(
        value=of.number(totals["intensity_g_per_kwh"]),
        unit="gCO2e/kWh",
        basis="average, lifecycle, location-based",
        query="totals",
        hourly_share=hourly,
        hourly_sources=tuple(row["source"] for row in answers.of["grid_sources"]) if hourly else (),
        sources=tuple(averages),
    )


def _ghg_protocol(totals: Mapping[str, Any], memo: Mapping[str, Any]) -> GhgProtocol:
    carbon, embodied = of.amount(totals, "carbon_g"), of.amount(totals, "embodied_g")
    no_factor = "no market-based factor of these places is in the factor set"
    return GhgProtocol(
        scope=_SCOPE,
        category=_CATEGORY,
        calculation_method=_METHOD,
        headline_basis="location-based",
        location_based_t_co2e=of.figure(carbon, "tCO2e", "totals", -6),
        market_based_t_co2e=of.partial(memo, "market_g", "tCO2e", no_factor, -6),
        embodied_t_co2e=of.figure(embodied, "tCO2e", "totals", -6),
        category_1_total_t_co2e=of.figure(of.add(carbon, embodied), "tCO2e", "totals", -6),
        gwp=GWP,
        exclusions=EXCLUSIONS,
    )


def _data_quality(answers: Answers) -> DataQuality:
    totals, tiers = answers.one("totals"), of.tiers(answers.of["by_tier"])
    low, high = totals["carbon_g_low"], totals["carbon_g_high"]
    first = [tier.share_of_carbon for tier in tiers if tier.tier == 1]
    return DataQuality(
        tiers=tiers,
        primary_data_share=(first or [Decimal(0)])[0],
        high_to_low=round(high / low, 6) if low > 0 else None,
        query="by_tier",
    )


def _coverage(answers: Answers) -> Coverage:
    row = answers.one("coverage")
    usage = tuple(
        UsageQuality(
            usage_quality=one["usage_quality"], calls=one["calls"], carbon_g=one["carbon_g"]
        )
        for one in answers.of["usage"]
    )
    refused = {one["reason"]: one["records"] for one in answers.of["dead_letters"]}
    return Coverage(
        calls=row["calls"],
        unknown_model_calls=int(row["unknown_model_calls"]),
        unknown_model_carbon_g=of.decimal(row["unknown_model_carbon_g"]),
        unknown_region_calls=int(row["unknown_region_calls"]),
        unknown_region_carbon_g=of.decimal(row["unknown_region_carbon_g"]),
        missing_usage_calls=sum(one.calls for one in usage if one.usage_quality == "missing"),
        usage=usage,
        ledger_calls=row["ledger_calls"],
        ledger_removed=row["ledger_calls"] < row["calls"],
        query="coverage",
        dead_letters=DeadLetters(
            records=sum(refused.values()), by_reason=refused, query="dead_letters"
        ),
    )


def _methods(answers: Answers) -> tuple[MethodUse, ...]:
    # What a restatement took back entirely is of no use any more.
    return tuple(
        MethodUse(
            method=row["method"],
            factors=row["factors"],
            calls=row["calls"],
            carbon_g=row["carbon_g"],
            on_record=answers.sources.knows(row["factors"]),
        )
        for row in answers.of["methods"]
        if row["calls"]
    )


def _budgets(answers: Answers) -> Budgets:
    breaches = tuple(
        Breach(**{name: row[name] for name in Breach.model_fields})
        for row in answers.of["breaches"]
        if row["action"] != "escalate"
    )
    return Budgets(**answers.one("runs"), breaches=breaches, query="runs, breaches")


def _row(row: Mapping[str, Any], answers: Answers, period: ReportingPeriod) -> Row:
    place = answers.sources.place(row["provider"], row["region"], row["factors"])
    source = None if place is None else place.intensity.citation
    names = ("tenant", "project", "provider", "model", "region", "method", "factors", "calls")
    carbon, embodied = of.amount(row, "carbon_g"), of.amount(row, "embodied_g")
    market = of.number(row["market_g"])
    basis = row["basis"]
    on_site = None if basis in (None, "unknown") else row[f"on_site_{basis}_ml"]
    return Row(
        entry=row["entry"],
        restatement_id=row["restatement_id"],
        run_id=answers.scope.run_id,
        period_start=period.start,
        period_end=period.end,
        scope=_SCOPE,
        category=_CATEGORY,
        calculation_method=_METHOD,
        quality_tier=row["tier"],
        primary_data_share=Decimal(int(row["tier"] == 1)),
        energy_kwh=of.amount(row, "energy_wh", -3),
        pue=of.number(row["pue"]),
        carbon_intensity_g_kwh=of.number(row["intensity_g_per_kwh"]),
        carbon_intensity_source=None if source is None else source.source,
        carbon_intensity_year=None if source is None else source.date,
        carbon_intensity_basis="average, lifecycle",
        carbon_g=carbon,
        carbon_t=of.amount(row, "carbon_g", -6),
        market_based_t=None if market is None else market.scaleb(-6),
        embodied_g=embodied,
        embodied_t=of.amount(row, "embodied_g", -6),
        water_consumed_ml=of.amount(row, "water_ml"),
        water_off_site_ml=of.number(row["off_site_ml"]),
        water_on_site_ml=of.number(on_site),
        water_on_site_basis=basis,
        water_stress_class=row["stress"],
        exclusions="; ".join(EXCLUSIONS),
        gwp=GWP,
        **{name: row[name] for name in (*names, *TOKENS)},
    )
