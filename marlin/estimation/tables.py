"""Rows of the factor files: typed access to text fields, with errors that name the place."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

from marlin.errors import EstimationError

__all__ = ["Citation", "Row", "read_rows"]

CITATION_FIELDS = ("source", "date", "licence", "tier")


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a row's values come from. No field is empty."""

    source: str
    date: str
    """Year or year and month of the source."""
    licence: str
    """Licence of the source's data; `cited` where a single fact is quoted."""
    tier: str
    """`primary`, `secondary` (quoted by another), `fit`, `estimate`, `judgement` or `user`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a factor file. Every accessor raises EstimationError where the field is unfit."""

    place: str
    fields: Mapping[str, str]

    def text(self, name: str) -> str:
        """A text that is not empty."""
        value = self.fields.get(name, "").strip()
        if not value:
            raise EstimationError(f"{self.place}: field {name!r} is empty; the file is refused")
        return value

    def optional_text(self, name: str) -> str:
        """A text, empty where the field is absent."""
        return self.fields.get(name, "").strip()

    def number(self, name: str, default: float | None = None, *, above: float = 0.0) -> float:
        """A finite number of `above` or more; `default` where the field is empty."""
        text = self.optional_text(name)
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not isfinite(value) or value < above:
            raise EstimationError(
                f"{self.place}: field {name!r} is {text!r}, expected a number of {above:g} "
                "or more; the file is refused"
            )
        return value

    def optional_number(self, name: str) -> float | None:
        """A finite number of 0 or more, None where the field is empty."""
        return self.number(name) if self.optional_text(name) else None

    def names(self, name: str) -> tuple[str, ...]:
        """Entries separated by semicolons."""
        return tuple(part.strip() for part in self.optional_text(name).split(";") if part.strip())

    def citation(self) -> Citation:
        """Where this row comes from; all four fields are required."""
        return Citation(*(self.text(field) for field in CITATION_FIELDS))


def read_rows(name: str, text: str) -> Iterator[Row]:
    """The rows of a CSV file's text; raises EstimationError where a row has surplus fields."""
    reader = csv.DictReader(text.splitlines(), strict=True)
    for fields in reader:
        place = f"{name}:{reader.line_num}"
        if None in fields or None in fields.values():
            raise EstimationError(
                f"{place}: the row has {'more' if None in fields else 'fewer'} fields than the "
                f"header's {len(reader.fieldnames or ())}; the file is refused"
            )
        yield Row(place, fields)
