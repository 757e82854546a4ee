"""The rows of a report as CSV: one line per entry, opening cleanly in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from marlin.reports.model import Amount, Row
from marlin.reports.report import Report, plain

__all__ = ["cells", "columns", "harmless", "to_csv"]

BOM = "\ufeff"
"""Without it Excel reads UTF-8 as the machine's old code page; others skip it."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_ENDS = {"central": "", "low": "_low", "high": "_high"}


def to_csv(report: Report) -> str:
    """All rows; every number has all its digits, so that columns add up to the JSON exactly.

    Lines end in CR LF, as RFC 4180 says. Empty: not known, or none.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns())
    for row in report.rows:
        writer.writerow([_text(cell) for cell in cells(row)])
    return BOM + text.getvalue()


def columns() -> list[str]:
    """Names of the columns; a range has three: central, `_low` and `_high`."""
    names: list[str] = []
    for name, field in Row.model_fields.items():
        names += (
            [f"{name}{end}" for end in _ENDS.values()] if field.annotation is Amount else [name]
        )
    return names


def cells(row: Row) -> Iterator[Any]:
    """The values of a row, in the order of `columns`."""
    for name in Row.model_fields:
        value = getattr(row, name)
        if isinstance(value, Amount):
            yield from (getattr(value, end) for end in _ENDS)
        else:
            yield value


def harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe is put before what could be one.

    Names come from whoever sends events (OWASP: CSV injection).
    """
    return (
        f"'{text}" if text.lstrip(" ").startswith(_FORMULA) or text.startswith(_FORMULA) else text
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return harmless(value) if isinstance(value, str) else str(value)
