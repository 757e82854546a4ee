"""All SQL of a report. Each query is one text without parameters, so that `marlin sql` takes it.

Every sum is exact: `DECIMAL(38, 12)` of each stored number, added up. What was recorded comes from
`daily` for a period, and from the ledger for a run; restatements are entries beside it, `reversed`
(what was, negative) and `restated` (what is), so that a restated figure is the sum of all entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from marlin.errors import DataError
from marlin.reports.period import Period
from marlin.reports.sources import KEYS, SourceRow

__all__ = ["AMOUNTS", "MEASURES", "TOKENS", "Queries", "Scope"]

MEASURES: Final = ("energy_wh", "carbon_g", "embodied_g", "water_ml")
AMOUNTS: Final = tuple(f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high"))
TOKENS: Final = (
    *("input_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens"),
)
_DECIMAL: Final = "DECIMAL(38, 12)"
_NAMES: Final = "tenant, project, provider, model, region, usage_quality"
_REMOVED: Final = "ledger_removed"
"""Stands for the codes of a run's calls whose rows have left the ledger: nothing is known of
them but their sums."""

_AMOUNT_SUMS: Final = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in AMOUNTS)
_CALL_SUM: Final = "coalesce(sum(calls), 0)::BIGINT AS calls"
_SUMS: Final = ", ".join(
    [_CALL_SUM, *(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in TOKENS), _AMOUNT_SUMS]
)
_TIER: Final = f"CASE WHEN codes <> '{_REMOVED}' THEN quality_tier(codes) END"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a report is about: a run or a period, of one tenant or all, as known at a time."""

    as_of: datetime
    run_id: str | None = None
    period: Period | None = None
    tenant: str | None = None


def _text(value: str) -> str:
    if "\0" in value:
        raise DataError(f"{value!r} contains a NUL, which no name has; nothing was reported")
    return "'" + value.replace("'", "''") + "'"


def _time(value: datetime) -> str:
    return f"TIMESTAMPTZ '{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"


def _casts(prefix: str = "", sign: str = "") -> str:
    return ", ".join(f"{sign}CAST({prefix}{n} AS {_DECIMAL}) AS {n}" for n in AMOUNTS)


class Queries:
    """The queries of one scope, as properties and methods that give SQL."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._figures = f"WITH figures AS ({self._recorded()}{self._adjusted()})"

    def _tenant(self, column: str) -> str:
        tenant = self.scope.tenant
        return "" if tenant is None else f" AND {column} = {_text(tenant)}"

    def _span(self, column: str) -> str:
        """A condition on a time."""
        period = self.scope.period
        assert period is not None
        return (
            f"{column} >= TIMESTAMPTZ '{period.start} 00:00:00+00' "
            f"AND {column} < TIMESTAMPTZ '{period.end} 00:00:00+00'"
        )

    def _recorded(self) -> str:
        entry = "SELECT 'recorded' AS entry, NULL::VARCHAR AS restatement_id"
        tokens = ", ".join(TOKENS)
        if self.scope.period:
            period = self.scope.period
            return (
                f"{entry}, day, {_NAMES}, codes, method, factors, calls, {tokens}, {_casts()} "
                f"FROM daily WHERE day >= DATE '{period.start}' AND day < DATE '{period.end}'"
                f"{self._tenant('tenant')}"
            )
        run = _text(self.scope.run_id or "")
        ledger = (
            f"{entry}, (event_time AT TIME ZONE 'UTC')::DATE AS day, {_NAMES}, "
            "array_to_string(quality, ',') AS codes, method, factors, 1::BIGINT AS calls, "
            f"{tokens}, {_casts()} FROM events WHERE run_id = {run}"
        )
        columns = ("calls", *TOKENS)
        rest = ", ".join(
            [
                *(f"(r.{n} - e.{n})::BIGINT AS {n}" for n in columns),
                *(f"CAST(r.{n} AS {_DECIMAL}) - e.{n} AS {n}" for n in AMOUNTS),
            ]
        )
        sums = ", ".join(
            [
                "count(*) AS calls",
                *(f"coalesce(sum({n}), 0) AS {n}" for n in TOKENS),
                *(f"coalesce(sum(CAST({n} AS {_DECIMAL})), 0) AS {n}" for n in AMOUNTS),
            ]
        )
        return (
            f"{ledger} UNION ALL {entry}, "
            "(coalesce(r.first_event_time, r.started_at) AT TIME ZONE 'UTC')::DATE, r.tenant, "
            "r.project, '(ledger removed)', '(ledger removed)', '(ledger removed)', "
            f"'(ledger removed)', '{_REMOVED}', '(ledger removed)', '(ledger removed)', {rest} "
            f"FROM runs AS r, (SELECT {sums} FROM events WHERE run_id = {run}) AS e "
            f"WHERE r.run_id = {run} AND r.calls > e.calls"
        )

    def _adjustment_filter(self) -> str:
        where = f"r.restated_at <= {_time(self.scope.as_of)}"
        if self.scope.run_id is not None:
            return f"{where} AND a.run_id = {_text(self.scope.run_id)}"
        return f"{where} AND {self._span('a.hour')}{self._tenant('a.tenant')}"

    def _adjusted(self) -> str:
        zeros = ", ".join("0" for _ in TOKENS)
        names = ", ".join(f"a.{name}" for name in _NAMES.split(", "))
        parts = [
            f" UNION ALL SELECT '{entry}', a.restatement_id, (a.hour AT TIME ZONE 'UTC')::DATE, "
            f"{names}, a.{old}_codes, a.{old}_method, a.{old}_factors, {sign}a.calls, {zeros}, "
            f"{_casts(f'a.{old}_', sign)} "
            "FROM adjustments AS a JOIN restatements AS r "
            f"ON r.restatement_id = a.restatement_id WHERE {self._adjustment_filter()}"
            for entry, old, sign in (("reversed", "old", "-"), ("restated", "new", ""))
        ]
        return "".join(parts)

    @property
    def totals(self) -> str:
        return f"{self._figures} SELECT {_SUMS}, {_intensity()} FROM figures"

    @property
    def recorded(self) -> str:
        return f"{self._figures} SELECT {_SUMS} FROM figures WHERE entry = 'recorded'"

    @property
    def adjustments(self) -> str:
        calls = "coalesce(sum(f.calls) FILTER (f.entry = 'restated'), 0)::BIGINT AS calls"
        return (
            f"{self._figures} SELECT f.restatement_id, r.kind, r.reason, r.restated_at, r.method, "
            f"r.factors, {calls}, {_AMOUNT_SUMS} FROM figures AS f JOIN restatements AS r "
            "ON r.restatement_id = f.restatement_id "
            "GROUP BY f.restatement_id, r.kind, r.reason, r.restated_at, r.method, r.factors "
            "ORDER BY r.restated_at, f.restatement_id"
        )

    def _grouped(self, keys: str, extra: str = "") -> str:
        return (
            f"{self._figures} SELECT {keys}, {_CALL_SUM}, {_AMOUNT_SUMS}{extra} FROM figures "
            "GROUP BY ALL ORDER BY ALL"
        )

    @property
    def by_day(self) -> str:
        return self._grouped("day")

    @property
    def by_model(self) -> str:
        return self._grouped("provider, model")

    @property
    def places(self) -> str:
        return self._grouped(
            "provider, region, factors", f", {_intensity()}, {_share('energy_wh')} AS energy_share"
        )

    @property
    def by_tier(self) -> str:
        return self._grouped(f"{_TIER} AS tier", f", {_share('carbon_g')} AS share_of_carbon")

    @property
    def methods(self) -> str:
        return self._grouped("method, factors")

    @property
    def usage(self) -> str:
        return self._grouped("usage_quality")

    @property
    def keys(self) -> str:
        return (
            f"{self._figures} SELECT DISTINCT {', '.join(KEYS)} FROM figures WHERE codes <> "
            f"'{_REMOVED}' ORDER BY ALL"
        )

    @property
    def coverage(self) -> str:
        columns = ", ".join(
            f"coalesce(sum({what}) FILTER (regexp_matches(codes, '(^|,){code}(,|$)')), 0) AS {name}"
            for name, what, code in (
                ("unknown_model_calls", "calls", "model_unknown"),
                ("unknown_model_carbon_g", "carbon_g", "model_unknown"),
                ("unknown_region_calls", "calls", "region_world"),
                ("unknown_region_carbon_g", "carbon_g", "region_world"),
                ("hourly_energy_wh", "energy_wh", "intensity_hour"),
            )
        )
        if self.scope.run_id is not None:
            where = f"run_id = {_text(self.scope.run_id)}"
        else:
            where = self._span("event_time") + self._tenant("tenant")
        return (
            f"{self._figures} SELECT {_CALL_SUM}, {columns}, "
            f"(SELECT count(*) FROM events WHERE {where}) AS ledger_calls FROM figures"
        )

    @property
    def dead_letters(self) -> str:
        if self.scope.run_id is not None:
            where = f"key = encode({_text(self.scope.run_id)})"
        else:
            where = self._span("refused_at")
        return (
            "SELECT step || ': ' || reason AS reason, count(*) AS records FROM dead_letters "
            f"WHERE {where} GROUP BY ALL ORDER BY ALL"
        )

    @property
    def grid_sources(self) -> str:
        where = "true"
        if self.scope.period:
            where = self._span("hour")
        elif self.scope.run_id is not None:
            run = _text(self.scope.run_id)
            hours = "SELECT date_trunc('hour', event_time) FROM events"
            where = f"hour IN ({hours} WHERE run_id = {run})"
        return (
            "SELECT DISTINCT source FROM grid_intensity WHERE basis = 'lifecycle' "
            f"AND {where} ORDER BY ALL"
        )

    def _runs(self) -> str:
        if self.scope.run_id is not None:
            return f"run_id = {_text(self.scope.run_id)}"
        period = self.scope.period
        assert period is not None
        return (
            f"first_event_time < TIMESTAMPTZ '{period.end} 00:00:00+00' AND "
            f"last_event_time >= TIMESTAMPTZ '{period.start} 00:00:00+00'{self._tenant('tenant')}"
        )

    @property
    def runs(self) -> str:
        return (
            "SELECT count(*) AS runs, count(carbon_budget_g) FILTER (enable_environmental) "
            "AS runs_with_budget, count(*) FILTER (status = 'aborted') AS runs_aborted "
            f"FROM runs WHERE {self._runs()}"
        )

    @property
    def run(self) -> str:
        return (
            "SELECT run_id, task, tenant, project, status, reason, started_at, "
            "coalesce(finished_at, stopped_at) AS ended_at, first_event_time, last_event_time, "
            f"CAST(carbon_budget_g AS {_DECIMAL}) AS carbon_budget_g, "
            f"CAST(overshoot_g AS {_DECIMAL}) AS overshoot_g FROM runs WHERE {self._runs()}"
        )

    @property
    def breaches(self) -> str:
        if self.scope.run_id is not None:
            where = f"run_id = {_text(self.scope.run_id)}"
        else:
            where = self._span("issued_at") + self._tenant("tenant")
        amounts = ", ".join(
            f"CAST({name} AS {_DECIMAL}) AS {name}"
            for name in ("budget_g", "spent_g", "overshoot_g")
        )
        return (
            f"SELECT run_id, action, reason, issued_at, outcome, {amounts} "
            f"FROM budget_breaches WHERE {where} ORDER BY issued_at, command_id"
        )

    def rows(self, sources: Sequence[SourceRow]) -> str:
        """The entries with what the place's factors give beside: water by site, market-based."""
        coefficients = ", coefficients AS (" + _values(sources) + ")"
        keys = f"entry, restatement_id, {_NAMES}, {_TIER} AS tier, method, factors"
        keys = keys.replace(", usage_quality", "")
        memo = ", ".join(
            [
                *(_memo("off_site_ml", "offsite", end, "true") for end in ("", "_low", "_high")),
                *(
                    _memo(f"on_site_{basis}_ml", "onsite", end, f"c.basis = '{basis}'")
                    for basis in ("consumption", "withdrawal", "unstated")
                    for end in ("", "_low", "_high")
                ),
                *(_memo("market_g", "market", end, "true") for end in ("", "_low", "_high")),
            ]
        )
        on = " AND ".join(f"c.{key} = g.{key}" for key in KEYS)
        return (
            f"{self._figures}{coefficients}, grouped AS (SELECT {keys}, {_SUMS}, {_intensity()} "
            f"FROM figures GROUP BY ALL) SELECT g.*, {memo}, c.basis, c.pue, c.stress "
            f"FROM grouped AS g LEFT JOIN coefficients AS c ON {on} "
            "ORDER BY entry, restatement_id, tenant, project, g.provider, g.model, g.region, tier, "
            "method, g.factors"
        )

    def memo(self, sources: Sequence[SourceRow]) -> str:
        """Sums of what `rows` has beside the entries, and the energy that each covers."""
        on_site = (f"on_site_{basis}_ml" for basis in ("consumption", "withdrawal", "unstated"))
        names = ("off_site_ml", "market_g", *on_site)
        sums = ", ".join(
            [
                *(f"sum({name}{end}) AS {name}{end}" for name in names for end in _ENDS),
                *(
                    f"round(coalesce(sum(energy_wh) FILTER ({name} IS NOT NULL), 0)::DOUBLE "
                    f"/ nullif(sum(energy_wh)::DOUBLE, 0), 6) AS {name}_share"
                    for name in names
                ),
            ]
        )
        return f"SELECT {sums} FROM ({self.rows(sources)})"

    def water_stress(self, sources: Sequence[SourceRow]) -> str:
        """Energy and water consumption by the places' class of water stress."""
        return (
            "SELECT stress, sum(energy_wh) AS energy_wh, sum(water_ml) AS water_ml, "
            f"{_share('energy_wh')} AS energy_share, {_share('water_ml')} AS water_share "
            f"FROM ({self.rows(sources)}) GROUP BY ALL ORDER BY ALL"
        )


_ENDS: Final = ("", "_low", "_high")


def _intensity() -> str:
    return (
        "round(1000 * sum(carbon_g)::DOUBLE / nullif(sum(energy_wh)::DOUBLE, 0), 6) "
        "AS intensity_g_per_kwh"
    )


def _share(name: str) -> str:
    return f"round(sum({name})::DOUBLE / nullif(sum(sum({name})) OVER ()::DOUBLE, 0), 6)"


def _memo(name: str, column: str, end: str, condition: str) -> str:
    factor = f"c.{column}" + (f" * c.{column}{end}" if end else "")
    product = f"CAST(g.energy_wh::DOUBLE * {factor} AS {_DECIMAL})"
    return f"CASE WHEN {condition} THEN {product} END AS {name}{end}"


def _values(sources: Sequence[SourceRow]) -> str:
    """The places' coefficients as a table [per Wh]; `_low` and `_high` multiply the central one."""
    names = ", ".join(SourceRow.COLUMNS)
    if not sources:
        kinds = ", ".join(
            f"NULL::{'DOUBLE' if kind is float else 'VARCHAR'} AS {name}"
            for name, kind in SourceRow.COLUMNS.items()
        )
        return f"SELECT {kinds} WHERE false"
    rows = ", ".join(
        "(" + ", ".join(_literal(value) for value in source.values) + ")" for source in sources
    )
    return f"SELECT * FROM (VALUES {rows}) AS v({names})"


def _literal(value: str | float | None) -> str:
    if value is None:
        return "NULL"
    return _text(value) if isinstance(value, str) else f"'{value!r}'::DOUBLE"
