"""The contract of the grid topic: average, life-cycle, on the hour, or refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from marlin.schemas import GridRecord, dump
from marlin.schemas.examples import GRID


def test_it_travels_and_comes_back() -> None:
    assert GridRecord.model_validate_json(dump(GRID)) == GRID
    assert GRID.hour == datetime(2026, 3, 1, 11, tzinfo=UTC)


def test_the_key_names_zone_hour_and_revision() -> None:
    assert GRID.key == b"DE|2026-03-01T11Z|0"
    assert GRID.model_copy(update={"revision": 12}).key == b"DE|2026-03-01T11Z|12"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("basis", "direct"),
        ("estimate", "marginal"),
        ("hour", "2026-03-01T11:30:00Z"),
        ("hour", "2026-03-01T11:00:00.000001Z"),
        ("hour", "2026-03-01T11:00:00+01:00"),
        ("zone", ""),
        ("zone", "DE|2026"),
        ("revision", -1),
        ("revision", 1.5),
        ("intensity_g_per_kwh", -1.0),
        ("intensity_g_per_kwh", None),
        ("source", ""),
        ("signal", "average"),
    ],
)
def test_anything_else_is_refused(field: str, value: Any) -> None:
    record = orjson.loads(dump(GRID))

    with pytest.raises(ValidationError, match=field):
        GridRecord.model_validate_json(orjson.dumps(record | {field: value}))
