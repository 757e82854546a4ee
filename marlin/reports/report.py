"""The report as a whole, its JSON, and the JSON Schema that it is published with."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any, Literal, TypeGuard

from marlin.reports.model import (
    Block,
    Budgets,
    Coverage,
    DataQuality,
    Day,
    Figure,
    GhgProtocol,
    Intensity,
    MethodUse,
    ModelUse,
    PartialFigure,
    PlaceUse,
    ReportingPeriod,
    ReportQuery,
    Restated,
    Row,
    Run,
    Sci,
    Tokens,
    Water,
    WaterStress,
)

__all__ = ["SCHEMA_FILE", "Report", "plain", "published_schema", "schema_text"]

SCHEMA_FILE = "report.schema.json"


class Report(Block):
    """Energy, carbon and water of one run, or of all use in a period."""

    schema_version: Literal["1"]
    marlin_version: str
    generated_at: datetime
    as_of: datetime
    """Restatements made until then (UTC, inclusive) are in the figures. The same `as_of` gives the
    same figures again, as long as no further calls of the period come in."""
    tenant: str | None
    """Whose use it is; None: all tenants."""
    reporting_period: ReportingPeriod
    run: Run | None
    """None: the report is about a period."""
    total_emissions_g_co2e: Figure
    """Operational carbon, location-based: what the ledger and budgets count. Embodied carbon is
    apart, in `ghg_protocol`."""
    total_emissions_t_co2e: Figure
    energy_kwh: Figure
    """Of the data centres: accelerators, hosts, idle and PUE."""
    carbon_intensity_g_kwh: Intensity
    water_withdrawn_ml: Water
    water_consumed_ml: Water
    water_unstated_ml: PartialFigure
    """On-site water whose operator does not say whether it is withdrawn or consumed: in neither."""
    water_stress: WaterStress
    ghg_protocol: GhgProtocol
    sci: Sci
    calls: int
    tokens: Tokens
    data_quality: DataQuality
    coverage: Coverage
    methods: tuple[MethodUse, ...]
    restatements: Restated
    budgets: Budgets
    by_day: tuple[Day, ...]
    by_model: tuple[ModelUse, ...]
    places: tuple[PlaceUse, ...]
    rows: tuple[Row, ...]
    queries: tuple[ReportQuery, ...]

    def to_json(self) -> str:
        """The report as JSON, numbers written digit by digit: no float comes between."""
        return _write(self.model_dump(), 0) + "\n"


def plain(value: Decimal) -> str:
    """All digits, no exponent, no trailing zeros."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def schema_text() -> str:
    """The JSON Schema of a report, as it is published."""
    schema = Report.model_json_schema(mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2) + "\n"


def published_schema() -> dict[str, Any]:
    """The JSON Schema that this version ships."""
    text = (files("marlin.reports") / SCHEMA_FILE).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _is_dict(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether it is an object."""
    return isinstance(value, dict)


def _is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    """Whether it is an array."""
    return isinstance(value, tuple)


def _write(value: Any, depth: int) -> str:
    """JSON with decimals as numbers: the standard library writes them as text or through float."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return json.dumps(value.astimezone(UTC).isoformat().replace("+00:00", "Z"))
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    indent, end = "\n" + "  " * (depth + 1), "\n" + "  " * depth
    if _is_dict(value):
        parts = [f"{json.dumps(key)}: {_write(item, depth + 1)}" for key, item in value.items()]
        return f"{{{indent}{f',{indent}'.join(parts)}{end}}}" if parts else "{}"
    if _is_tuple(value):
        parts = [_write(item, depth + 1) for item in value]
        return f"[{indent}{f',{indent}'.join(parts)}{end}]" if parts else "[]"
    return json.dumps(value, ensure_ascii=False)
