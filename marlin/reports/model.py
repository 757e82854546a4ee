"""What a report says: one documented model, from which `report.schema.json` is generated.

Numbers are exact decimals: sums of what the database holds, never rounded. Grams and tonnes, Wh and
kWh differ by powers of ten only. `query` is the name of the query in `queries` that gives a figure.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, WithJsonSchema

__all__ = [
    "AdjustmentTotals",
    "Amount",
    "Breach",
    "Budgets",
    "Coverage",
    "DataQuality",
    "Day",
    "DeadLetters",
    "Factor",
    "Figure",
    "GhgProtocol",
    "Intensity",
    "MethodUse",
    "ModelUse",
    "PartialFigure",
    "PlaceUse",
    "QualityTier",
    "ReportQuery",
    "ReportingPeriod",
    "Restated",
    "Row",
    "Run",
    "Sci",
    "StressClass",
    "Tokens",
    "Totals",
    "UsageQuality",
    "Water",
    "WaterStress",
]

Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]


class Block(BaseModel):
    """Part of a report: strict, closed and immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Amount(Block):
    """A range and its central value. A band of judgement, not a confidence interval."""

    low: Number
    central: Number
    high: Number


class Figure(Amount):
    """An amount with its unit and the query that gives it."""

    unit: str
    query: str


class PartialFigure(Block):
    """A figure that is known for some places only, or for none."""

    value: Figure | None
    """None: not known, see `reason`."""
    reason: str | None
    """Why it is not known, or what it leaves out."""
    energy_share: Number | None
    """Share of the energy that it covers [1]; None: nothing was used."""


class ReportingPeriod(Block):
    """What time the report is about. Of a run: from its first to its last call."""

    label: str
    start: datetime | None
    """Inclusive (UTC). None: the run made no call."""
    end: datetime | None
    """Exclusive (UTC) for a period; the time of the last call for a run."""


class Run(Block):
    """The run that is reported, if it is one."""

    run_id: str
    task: str | None
    project: str | None
    status: str
    reason: str | None
    started_at: datetime | None
    ended_at: datetime | None
    carbon_budget_g: Number | None
    """Budget [gCO2e]; None: none."""
    overshoot_g: Number | None
    """Spent beyond the budget until it stopped [gCO2e]."""


class Tokens(Block):
    """Tokens by class [count]. The classes do not overlap; reasoning is part of output."""

    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int


class Totals(Block):
    """The four sums of a report."""

    calls: int
    energy_wh: Amount
    carbon_g: Amount
    """Operational, location-based [gCO2e]."""
    embodied_g: Amount
    water_ml: Amount
    """Consumption [mL]."""
    query: str


class Factor(Block):
    """A value of a place that estimates rest on, with where it comes from."""

    quantity: str
    """intensity, pue, wue (on-site water), ewif (off-site water), water_stress."""
    scope: str
    """Whose value it is: region, provider, zone, subregion, country or world."""
    key: str
    value: Number
    unit: str
    basis: str
    """Of intensity: lifecycle. Of water: consumption, withdrawal or unstated."""
    year: str
    source: str
    licence: str
    tier: str
    """primary, secondary, fit, estimate, judgement or user."""


class PlaceUse(Block):
    """One provider, region and factor set: what was used there, and the place's factors."""

    provider: str
    region: str
    """As told by the runtime."""
    location: str
    """What the name was taken to mean: country and grid zone."""
    factors: str
    calls: int
    energy_kwh: Amount
    carbon_g: Amount
    embodied_g: Amount
    water_ml: Amount
    carbon_intensity_g_kwh: Number | None
    """Carbon over energy [gCO2e/kWh]; None: no energy."""
    energy_share: Number | None
    water_stress_class: str | None
    """Of the place (WRI Aqueduct); None: not known."""
    sources: tuple[Factor, ...]
    """Empty: this factor set's content is not on record."""


class Intensity(Block):
    """Carbon intensity of the electricity: carbon over energy, over all places."""

    value: Number | None
    """[gCO2e/kWh]; None: no energy."""
    unit: str
    basis: str
    query: str
    hourly_share: Number | None
    """Share of the energy that was matched with the hour's grid intensity [1]; the rest rests on
    averages of a year."""
    hourly_sources: tuple[str, ...]
    sources: tuple[Factor, ...]
    """The averages that were used, each with its year."""


class Water(Block):
    """Water on one basis, consumption or withdrawal; on-site and off-site never mixed with the
    other basis."""

    total: PartialFigure
    on_site: PartialFigure
    """Of the data centre's cooling."""
    off_site: PartialFigure
    """Where the electricity is made."""


class StressClass(Block):
    """Use in places of one class of baseline water stress."""

    water_stress_class: str | None
    """WRI Aqueduct 4.0: Low to Extremely High; None: not known."""
    energy_kwh: Number
    energy_share: Number | None
    water_ml: Number
    water_share: Number | None


class WaterStress(Block):
    """Baseline water stress at the data centres. Off-site water is drawn elsewhere, at the power
    plants, whose basins are not known."""

    high_stress_energy_share: Number | None
    """Share of the energy used in places of High or Extremely High stress [1]; None: no energy."""
    high_stress_water_share: Number | None
    """Share of the water consumption that belongs to use in such places [1]."""
    unknown_energy_share: Number | None
    classes: tuple[StressClass, ...]
    source: str
    query: str


class GhgProtocol(Block):
    """The GHG Protocol's view: purchased inference, cradle-to-gate."""

    scope: str
    category: str
    calculation_method: str
    headline_basis: str
    location_based_t_co2e: Figure
    """Operational carbon, the headline."""
    market_based_t_co2e: PartialFigure
    """A memo beside the headline, never netted with it."""
    embodied_t_co2e: Figure
    """Making the hardware, by the time it was in use; apart from the headline."""
    category_1_total_t_co2e: Figure
    """Operational (location-based) and embodied together: cradle-to-gate. Both ends of the range
    are sums of ends."""
    gwp: str
    exclusions: tuple[str, ...]


class Sci(Block):
    """Software Carbon Intensity, ISO/IEC 21031:2024: ((E * I) + M) per R. A rate for engineering,
    not an inventory."""

    value: Amount | None
    """[gCO2e per R]; None: no R."""
    unit: str
    formula: str
    e_kwh: Amount
    i_g_per_kwh: Number | None
    """Location-based, average."""
    m_g: Amount
    r: str
    r_count: int
    query: str


class QualityTier(Block):
    """How much rests on data of one quality."""

    tier: int | None
    """1 measured by the provider to 5 unknown model or place; None: not known, the ledger's rows
    were removed."""
    meaning: str
    calls: int
    carbon_g: Number
    carbon_t: Number
    share_of_carbon: Number | None


class DataQuality(Block):
    """Tiers and the share of primary data."""

    tiers: tuple[QualityTier, ...]
    primary_data_share: Number | None
    """Share of carbon in tier 1 [1]."""
    high_to_low: Number | None
    """High end of carbon over its low end; None: the low end is 0."""
    query: str


class UsageQuality(Block):
    """Calls by how their token counts came about."""

    usage_quality: str
    calls: int
    carbon_g: Number


class DeadLetters(Block):
    """Records that were refused: they are in no sum."""

    records: int
    """Of a run: those keyed by it. Of a period: those refused in it, of all tenants, since a
    refused record tells no tenant."""
    by_reason: dict[str, int]
    query: str


class Coverage(Block):
    """What the figures rest on and what they lack."""

    calls: int
    unknown_model_calls: int
    unknown_model_carbon_g: Number
    unknown_region_calls: int
    unknown_region_carbon_g: Number
    missing_usage_calls: int
    """Calls that happened but whose tokens are unknown: counted as calls, with no energy."""
    usage: tuple[UsageQuality, ...]
    ledger_calls: int
    """Calls whose rows are in the ledger."""
    ledger_removed: bool
    """Whether rows of the ledger were removed: sums stay, the calls behind them are gone."""
    query: str
    dead_letters: DeadLetters


class MethodUse(Block):
    """A method and factor set that figures rest on, restatements included."""

    method: str
    factors: str
    calls: int
    carbon_g: Number
    on_record: bool
    """Whether the factor set's content is known here."""


class AdjustmentTotals(Block):
    """What one restatement changes here: new less old, in order of time."""

    restatement_id: str
    kind: str
    reason: str
    restated_at: datetime
    method: str
    factors: str
    calls: int
    """Calls whose figures changed."""
    energy_wh: Amount
    carbon_g: Amount
    embodied_g: Amount
    water_ml: Amount


class Restated(Block):
    """History does not change: what was recorded, what restatements add, and both together, which
    is what the report's figures say."""

    as_recorded: Totals
    adjustments: tuple[AdjustmentTotals, ...]
    restated: Totals
    query: str


class Breach(Block):
    """A command to a runtime whose run crossed a line of its budget."""

    run_id: str
    action: str | None
    reason: str | None
    budget_g: Number | None
    spent_g: Number | None
    issued_at: datetime | None
    outcome: str | None
    """stopped, already_finished, refused; None: not acknowledged."""
    overshoot_g: Number | None


class Budgets(Block):
    """Budgets and what came of them."""

    runs: int
    """Runs with calls in the period, or the run itself."""
    runs_with_budget: int
    runs_aborted: int
    breaches: tuple[Breach, ...]
    query: str


class Day(Block):
    """One day (UTC)."""

    day: date
    calls: int
    energy_kwh: Amount
    carbon_g: Amount
    embodied_g: Amount
    water_ml: Amount


class ModelUse(Block):
    """One provider and model."""

    provider: str
    model: str
    calls: int
    energy_kwh: Amount
    carbon_g: Amount
    embodied_g: Amount
    water_ml: Amount


class Row(Block):
    """A row of the CSV: an entry in the accounts. All rows add up to the report's figures."""

    entry: Literal["recorded", "reversed", "restated"]
    """recorded: as it was estimated at first. reversed: what a restatement takes back, negative.
    restated: what it puts in its place."""
    restatement_id: str | None
    run_id: str | None
    period_start: datetime | None
    period_end: datetime | None
    tenant: str | None
    project: str | None
    scope: str
    category: str
    calculation_method: str
    provider: str
    model: str
    region: str
    quality_tier: int | None
    primary_data_share: Number
    method: str
    factors: str
    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    energy_kwh: Amount
    pue: Number | None
    carbon_intensity_g_kwh: Number | None
    carbon_intensity_source: str | None
    carbon_intensity_year: str | None
    carbon_intensity_basis: str
    carbon_g: Amount
    carbon_t: Amount
    market_based_t: Number | None
    embodied_g: Amount
    embodied_t: Amount
    water_consumed_ml: Amount
    water_off_site_ml: Number | None
    water_on_site_ml: Number | None
    water_on_site_basis: str | None
    water_stress_class: str | None
    exclusions: str
    gwp: str


class ReportQuery(Block):
    """A query that gives figures of this report, as `marlin sql` takes it."""

    name: str
    gives: str
    sql: str
    parameters: dict[str, str | None]
    """The values that `sql` contains."""
