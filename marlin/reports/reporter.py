"""Reports of one run or of a period, in the format that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import localcontext
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from marlin.errors import DataError, QueryError
from marlin.reports.assembly import Answers, assemble
from marlin.reports.model import ReportQuery
from marlin.reports.period import PeriodLike, parse_period
from marlin.reports.queries import Queries, Scope
from marlin.reports.report import Report
from marlin.reports.sources import FACTOR_SETS_SQL, KEYS, Sources

if TYPE_CHECKING:
    from marlin.settings import Settings

__all__ = ["FORMATS", "ESGReporter"]

TextFormat = Literal["json", "csv", "html"]
FORMATS: Final = ("json", "csv", "html", "xlsx")

_DIGITS: Final = 60
"""Digits of a sum: those of DECIMAL(38, 12), and room for the point to move."""

_GIVES: Final = {
    "totals": "the restated figures",
    "recorded": "the figures as they were recorded",
    "adjustments": "what each restatement changes",
    "rows": "the rows of the CSV",
    "memo": "water by site and basis, market-based carbon",
    "water_stress": "use by class of water stress",
    "places": "use by place",
    "by_day": "use by day",
    "by_model": "use by model",
    "by_tier": "carbon by tier of data quality",
    "usage": "calls by quality of their token counts",
    "coverage": "unknown models and places, rows in the ledger",
    "dead_letters": "refused records",
    "methods": "methods and factor sets in use",
    "runs": "runs and budgets",
    "run": "the run",
    "breaches": "commands to runs that crossed a line",
    "grid_sources": "where hourly grid intensity came from",
}


class ESGReporter:
    """Makes reports from the database, whether the pipeline runs or not."""

    def __init__(self, settings: Settings | None = None) -> None:
        """`settings` say which database; the environment's by default."""
        self._settings = settings

    @overload
    def generate(
        self,
        *,
        run_id: str | None = None,
        period: PeriodLike | None = None,
        tenant: str | None = None,
        as_of: datetime | None = None,
        format: TextFormat = "json",
    ) -> str: ...
    @overload
    def generate(
        self,
        *,
        run_id: str | None = None,
        period: PeriodLike | None = None,
        tenant: str | None = None,
        as_of: datetime | None = None,
        format: Literal["xlsx"],
    ) -> bytes: ...
    @overload
    def generate(
        self,
        *,
        run_id: str | None = None,
        period: PeriodLike | None = None,
        tenant: str | None = None,
        as_of: datetime | None = None,
        format: str,
    ) -> str | bytes: ...
    def generate(
        self,
        *,
        run_id: str | None = None,
        period: PeriodLike | None = None,
        tenant: str | None = None,
        as_of: datetime | None = None,
        format: str = "json",
    ) -> str | bytes:
        """A report as JSON, CSV or HTML text, or as the bytes of an Excel workbook.

        What it is about is as in `report`. Raises `DataError` for another format, and what
        `report` raises; `ConfigurationError` when a package of the extra `reports` is missing.
        """
        if format not in FORMATS:
            raise DataError(
                f"{format!r} is no format: expected {', '.join(FORMATS)}; nothing was reported"
            )
        return _RENDER[format](
            self.report(run_id=run_id, period=period, tenant=tenant, as_of=as_of)
        )

    def report(
        self,
        *,
        run_id: str | None = None,
        period: PeriodLike | None = None,
        tenant: str | None = None,
        as_of: datetime | None = None,
    ) -> Report:
        """The report's model: of one run, or of all use in a period (of one tenant, or of all).

        `as_of` (naive: UTC) leaves out later restatements, so that an earlier report comes again to
        the digit; by default all count. Raises `DataError` unless exactly one of `run_id` and
        `period` is given, for an unknown run and an unfit period; `QueryError` and `SinkError` as
        `marlin.query.query` does.
        """
        if (run_id is None) == (period is None):
            raise DataError("expected exactly one of run_id and period; nothing was reported")
        now = datetime.now(UTC)
        at = now if as_of is None else as_of
        scope = Scope(
            as_of=at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC),
            run_id=run_id,
            period=None if period is None else parse_period(period),
            tenant=tenant,
        )
        with localcontext(prec=_DIGITS):
            return self._report(scope, now)

    def _report(self, scope: Scope, now: datetime) -> Report:
        from marlin import __version__

        queries = Queries(scope)
        if scope.run_id is not None:
            self._check_run(queries)
        sources = Sources({row["factors"]: row["content"] for row in self._ask(FACTOR_SETS_SQL)})
        keys = [tuple(row[name] for name in KEYS) for row in self._ask(queries.keys)]
        coefficients = sources.coefficients(keys)
        texts = {
            name: getattr(queries, name)
            for name in _GIVES
            if name not in ("rows", "memo", "water_stress", "run")
        }
        if scope.run_id is not None:
            texts["run"] = queries.run
        for name in ("rows", "memo", "water_stress"):
            texts[name] = getattr(queries, name)(coefficients)
        answers = Answers(scope, {name: self._ask(sql) for name, sql in texts.items()}, sources)
        return Report(
            schema_version="1",
            marlin_version=__version__,
            generated_at=now,
            queries=_named(texts, scope),
            **assemble(answers),
        )

    def _check_run(self, queries: Queries) -> None:
        found = self._ask(queries.run)
        run_id, tenant = queries.scope.run_id, queries.scope.tenant
        if not found:
            raise DataError(f"there is no run {run_id!r}; `marlin runs` lists them")
        if tenant is not None and found[0]["tenant"] != tenant:
            raise DataError(f"run {run_id!r} is not of tenant {tenant!r}; nothing was reported")

    def _ask(self, sql: str) -> list[dict[str, Any]]:
        from marlin.query import query

        result = query(sql, settings=self._settings)
        if result.truncated:
            raise QueryError(
                f"a report needs more than the {len(result.rows)} rows that a query may give; "
                "nothing was reported: raise MARLIN_SINK__QUERY_MAX_ROWS, or take a shorter period"
            )
        return result.to_dicts()


def _named(texts: Mapping[str, str], scope: Scope) -> tuple[ReportQuery, ...]:
    parameters = {
        "run_id": scope.run_id,
        "start": None if scope.period is None else scope.period.start.isoformat(),
        "end": None if scope.period is None else scope.period.end.isoformat(),
        "tenant": scope.tenant,
        "as_of": scope.as_of.isoformat(),
    }
    return tuple(
        ReportQuery(name=name, gives=gives, sql=texts[name], parameters=parameters)
        for name, gives in _GIVES.items()
        if name in texts
    )


def _csv(report: Report) -> str:
    from marlin.reports.csv import to_csv

    return to_csv(report)


def _html(report: Report) -> str:
    from marlin.reports.html import to_html

    return to_html(report)


def _xlsx(report: Report) -> bytes:
    from marlin.reports.xlsx import to_xlsx

    return to_xlsx(report)


_RENDER: Final[Mapping[str, Callable[[Report], str | bytes]]] = {
    "json": Report.to_json,
    "csv": _csv,
    "html": _html,
    "xlsx": _xlsx,
}
