"""Scalar factors: their range encloses their value."""

from __future__ import annotations

import pytest

from marlin.errors import EstimationError
from marlin.estimation.factors import parse_factor
from marlin.estimation.tables import Row

FIELDS = {
    "name": "host",
    "value": "1.6",
    "low": "1.3",
    "high": "2.2",
    "unit": "1",
    "source": "s",
    "date": "2025",
    "licence": "l",
    "tier": "t",
}


def test_a_factor_keeps_everything() -> None:
    factor = parse_factor(Row("f.csv:2", FIELDS))
    assert (factor.name, factor.value, factor.low, factor.high) == ("host", 1.6, 1.3, 2.2)
    assert (factor.unit, factor.citation.source, factor.citation.tier) == ("1", "s", "t")


def test_without_a_range_the_value_is_the_range() -> None:
    factor = parse_factor(Row("f.csv:2", {**FIELDS, "low": "", "high": ""}))
    assert (factor.low, factor.high) == (1.6, 1.6)


def test_the_ends_may_be_in_either_order() -> None:
    # A batch size: the low end of the energy is the large batch.
    factor = parse_factor(Row("f.csv:2", {**FIELDS, "value": "96", "low": "1024", "high": "8"}))
    assert (factor.low, factor.high) == (1024.0, 8.0)


def test_a_value_outside_its_range_is_refused() -> None:
    with pytest.raises(EstimationError, match=r"f.csv:2: value 3 lies outside 1.3 to 2.2"):
        parse_factor(Row("f.csv:2", {**FIELDS, "value": "3"}))
