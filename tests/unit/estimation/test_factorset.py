"""The factor set: version by content, refusals, and lookups."""

from __future__ import annotations

import pytest

from marlin.errors import EstimationError
from marlin.estimation.factorset import (
    FILES,
    RELEASED,
    build_factor_set,
    columns_of,
    shipped_factor_set,
    shipped_texts,
)


def changed(name: str, old: str, new: str) -> dict[str, str]:
    texts = dict(shipped_texts())
    assert old in texts[name]
    texts[name] = texts[name].replace(old, new, 1)
    return texts


def test_the_version_is_the_date_and_the_hash() -> None:
    version = shipped_factor_set().version
    assert version == build_factor_set(shipped_texts()).version
    date, _, digest = version.rpartition("-")
    assert date == RELEASED
    assert len(digest) == 8
    int(digest, 16)


@pytest.mark.parametrize("name", FILES)
def test_any_change_of_any_file_changes_the_version(name: str) -> None:
    texts = dict(shipped_texts())
    texts[name] += "\n"
    assert build_factor_set(texts).version != shipped_factor_set().version


def test_a_row_that_stands_twice_is_refused() -> None:
    row = shipped_texts()["hardware.csv"].splitlines()[1]
    with pytest.raises(EstimationError, match=r"hardware.csv:3: H100 stands twice"):
        build_factor_set(changed("hardware.csv", row, f"{row}\n{row}"))


def test_a_missing_constant_is_refused_at_once() -> None:
    name = "memory_efficiency"
    with pytest.raises(EstimationError, match=f"no factor '{name}'"):
        build_factor_set(changed("fit.csv", name, "something_else"))


def test_an_unknown_factor_is_an_error() -> None:
    with pytest.raises(EstimationError, match="no factor 'nothing'"):
        shipped_factor_set().value("nothing")


def test_columns_of_a_file() -> None:
    assert {"name", "value", "low", "high", "unit", "source"} <= columns_of("factors.csv")
