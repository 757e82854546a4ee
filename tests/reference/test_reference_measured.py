"""The estimator on measured rows. They stand beside the checkout and are not part of it."""

from __future__ import annotations

import csv
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest

from marlin.estimation import Estimate, OperatingPoint, estimate

SCIENCE = Path(__file__).parents[2] / "../shared/science"
MEASURED = SCIENCE / "mlenergy_v3_llm.csv"
INPUT_TOKENS = {"lm-arena-chat": 50.0, "gpqa": 250.0}

pytestmark = pytest.mark.skipif(
    not MEASURED.exists(), reason="no measured rows: ../shared/science is absent"
)


@dataclass(frozen=True)
class Row:
    """A measured configuration and the energy of one of its calls on accelerators."""

    model: str
    point: OperatingPoint
    input_tokens: int
    output_tokens: int
    truth_wh: float


def rows() -> list[Row]:
    found: list[Row] = []
    with MEASURED.open(newline="") as file:
        for row in csv.DictReader(file):
            output = float(row["avg_output_tokens"])
            found.append(
                Row(
                    row["model"],
                    OperatingPoint(
                        hardware=row["gpu"],
                        gpus=int(row["n_gpus"]),
                        batch=float(row["avg_batch"]),
                        precision=row["precision"],
                    ),
                    round(INPUT_TOKENS.get(row["task"], 7 * output)),
                    round(output),
                    float(row["gpu_joules_per_output_token"]) * output / 3600,
                )
            )
    return found


def answer(row: Row, point: OperatingPoint | None) -> Estimate:
    return estimate(
        row.model,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        operating_point=point,
    )


def test_every_measured_model_is_in_the_catalogue() -> None:
    assert len(rows()) == 384
    for row in rows():
        assert answer(row, row.point).codes[0] == "region_missing", row.model


def test_known_operating_points_are_met() -> None:
    errors = [
        abs(math.log(answer(row, row.point).gpu_energy_wh.central / row.truth_wh)) for row in rows()
    ]
    assert math.exp(statistics.median(errors)) < 1.25
    assert sum(error < math.log(2) for error in errors) / len(errors) > 0.95


def test_the_blind_range_covers_and_is_no_wider_than_it_must_be() -> None:
    spans = [(answer(row, None).gpu_energy_wh, row.truth_wh) for row in rows()]
    inside = sum(span.low <= truth <= span.high for span, truth in spans) / len(spans)
    assert 0.80 <= inside <= 0.90
    width = statistics.median(span.high / span.low for span, _ in spans)
    # One multiplier for all rows, chosen knowing them, would need 11 for the same share.
    assert width < 12
