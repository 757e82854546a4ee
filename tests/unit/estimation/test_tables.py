"""Rows of factor files: types, refusals, and the place an error names."""

from __future__ import annotations

import pytest

from marlin.errors import EstimationError
from marlin.estimation.tables import Citation, Row, read_rows

HEADER = "name,value,source,date,licence,tier\n"


def row(**fields: str) -> Row:
    return Row("test.csv:2", fields)


def test_rows_keep_their_line_numbers() -> None:
    rows = list(read_rows("x.csv", HEADER + "a,1,s,d,l,t\nb,2,s,d,l,t\n"))
    assert [one.place for one in rows] == ["x.csv:2", "x.csv:3"]
    assert [one.text("name") for one in rows] == ["a", "b"]


def test_quoted_commas_stay_in_the_field() -> None:
    (one,) = read_rows("x.csv", HEADER + 'a,1,"Doe, 2024",d,l,t\n')
    assert one.text("source") == "Doe, 2024"


@pytest.mark.parametrize(("line", "found"), [("a,1,s,d,l,t,extra", "more"), ("a,1", "fewer")])
def test_surplus_and_missing_fields_are_refused(line: str, found: str) -> None:
    with pytest.raises(EstimationError, match=f"x.csv:2: the row has {found} fields"):
        list(read_rows("x.csv", HEADER + line + "\n"))


@pytest.mark.parametrize("text", ["", "  ", "abc", "nan", "inf", "-inf", "-1", "1e400", "0x10"])
def test_a_number_must_be_finite_and_not_negative(text: str) -> None:
    with pytest.raises(EstimationError, match=r"test.csv:2: field 'value'"):
        row(value=text).number("value")


def test_numbers_read() -> None:
    assert row(value=" 1.5e3 ").number("value") == 1500.0
    assert row(value="").number("value", 2.0) == 2.0
    assert row(value="0").optional_number("value") == 0.0
    assert row(value="").optional_number("value") is None


def test_a_number_below_its_bound_is_refused() -> None:
    with pytest.raises(EstimationError, match="expected a number of 1 or more"):
        row(value="0.5").number("value", above=1.0)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(EstimationError, match="field 'name' is empty"):
        row(name=" ").text("name")


def test_names_are_separated_by_semicolons() -> None:
    assert row(aliases="a; b;;c ").names("aliases") == ("a", "b", "c")
    assert row().names("aliases") == ()


@pytest.mark.parametrize("missing", ["source", "date", "licence", "tier"])
def test_a_citation_needs_all_four_fields(missing: str) -> None:
    fields = {"source": "s", "date": "d", "licence": "l", "tier": "t"}
    assert row(**fields).citation() == Citation("s", "d", "l", "t")
    with pytest.raises(EstimationError, match=f"field '{missing}' is empty"):
        row(**{**fields, missing: ""}).citation()
