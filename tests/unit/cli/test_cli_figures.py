"""Quantities as people read them."""

from __future__ import annotations

import pytest

from marlin.cli.figures import (
    amount,
    budget_bar,
    grams,
    millilitres,
    milliseconds,
    moment,
    spread,
    status,
    watt_hours,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00001234, "1.2e-05"),
        (0.012345, "0.0123"),
        (0.5, "0.500"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (123.4, "123"),
        (999.4, "999"),
        (999.9, "1,000"),
        (1234.5, "1,234"),
    ],
)
def test_amounts_have_three_digits(value: float, text: str) -> None:
    assert amount(value) == text


def test_units_follow_the_size() -> None:
    assert grams(0) == "0 g"
    assert grams(0.0123) == "12.3 mg"
    assert grams(12.3) == "12.3 g"
    assert grams(12_300) == "12.3 kg"
    assert watt_hours(9_999) == "9,999 Wh"
    assert watt_hours(12_300) == "12.3 kWh"
    assert millilitres(12_300) == "12.3 L"
    assert millilitres(1.5) == "1.50 mL"
    assert milliseconds(0) == "0 ms"
    assert milliseconds(12.34) == "12.3 ms"
    assert milliseconds(1234) == "1.23 s"
    assert milliseconds(90_000) == "90.0 s"
    assert milliseconds(900_000) == "15.0 min"


def test_both_ends_of_a_range_are_in_the_unit_of_the_higher() -> None:
    assert spread(0.001, 0.05) == "1.00 to 50.0 mg"
    assert spread(0.001, 0.5) == "0.00100 to 0.500 g"
    assert spread(500, 20_000) == "0.500 to 20.0 kg"


@pytest.mark.parametrize(
    ("spent_g", "budget_g", "text"),
    [
        (0.0, 1.0, "░░░░░░░░░░    0% of 1.00 g"),
        (0.79, 1.0, "███████░░░   79% of 1.00 g"),
        (1.0, 1.0, "██████████  100% of 1.00 g"),
        (2.5, 1.0, "██████████  250% of 1.00 g"),
        (50.0, 1.0, "██████████ >999% of 1.00 g"),
        (0.0, 0.0, "░░░░░░░░░░    0% of 0 g"),
        (5.0, None, "no budget"),
    ],
)
def test_a_budget_bar_never_leaves_its_box(
    spent_g: float, budget_g: float | None, text: str
) -> None:
    assert budget_bar(spent_g, budget_g).plain == text


def test_only_a_breach_is_red() -> None:
    assert "red" not in {str(span.style) for span in budget_bar(1.0, 1.0).spans}
    assert "red" in {str(span.style) for span in budget_bar(1.001, 1.0).spans}


def test_a_status_that_is_unknown_is_shown_as_it_is() -> None:
    assert (status("paused").plain, str(status("paused").style)) == ("paused", "")


def test_no_moment_is_no_text() -> None:
    assert moment(None) == ""
