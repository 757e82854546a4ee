"""The estimator against values computed without it (`generate.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marlin.estimation import OperatingPoint, estimate, shipped_factor_set

CONTENT: dict[str, Any] = json.loads(Path(__file__).with_name("expected.json").read_text())


def test_the_values_are_of_these_factors() -> None:
    assert shipped_factor_set().version.endswith(f"-{CONTENT['factors']}"), (
        "the factors changed: run tests/reference/generate.py and read what it changes"
    )


@pytest.mark.parametrize(
    "entry",
    CONTENT["cases"],
    ids=lambda entry: f"{entry['case']['model']}-{entry['case']['region']}",
)
def test_estimates_are_as_computed_independently(entry: dict[str, Any]) -> None:
    case = entry["case"]
    found = estimate(
        case["model"],
        provider=case["cloud"],
        region=case["region"],
        input_tokens=case["fresh"],
        cache_read_tokens=case["read"],
        cache_write_tokens=case["write"],
        output_tokens=case["output"],
        operating_point=OperatingPoint(
            hardware=case["hardware"],
            gpus=case["gpus"],
            batch=float(case["batch"]),
            precision=case["precision"],
        ),
    )
    for name, value in entry["expected"].items():
        assert getattr(found, name).central == pytest.approx(value, rel=1e-12), name
