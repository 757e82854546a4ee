"""Which factors to restate with: shipped, recorded in the database, or files of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from marlin.errors import DataError, EstimationError
from marlin.estimation.factorset import (
    FILES,
    RELEASED,
    FactorSet,
    build_factor_set,
    shipped_factor_set,
    shipped_texts,
)
from marlin.estimation.overrides import overlay
from marlin.restatement.ledger import Reader

__all__ = ["choose_factors", "set_of"]

_OVERLAY = ".toml"


def choose_factors(name: str, reader: Reader) -> tuple[FactorSet, dict[str, str]]:
    """The factor set that `name` means, and its content for the record.

    `name` is `shipped`, the version of a set that `factor_sets` has with its content, a folder of
    factor files (those that it lacks are the shipped ones; `*.toml` go over them, by name), or one
    such file. Raises `DataError` where it is none of these, `EstimationError` where a row is unfit.
    """
    if name == "shipped":
        return shipped_factor_set(), shipped_texts()
    path = Path(name)
    if path.exists():
        content = shipped_texts() | _read(path)
        return set_of(content), content
    content = _recorded(name, reader)
    made = set_of(content, date=name.partition("+")[0].rpartition("-")[0])
    if made.version != name:
        raise DataError(
            f"what the database has as factor set {name} is {made.version}; nothing was computed"
        )
    return made, content


def set_of(content: Mapping[str, str], *, date: str = RELEASED) -> FactorSet:
    """A factor set from the texts of its files, as `factor_sets` records them."""
    missing = [file for file in FILES if file not in content]
    if missing:
        raise DataError(f"a factor set lacks {missing[0]}; nothing was computed")
    made = build_factor_set(content, date)
    for file in sorted(content):
        if file.endswith(_OVERLAY):
            made = overlay(made, content[file], file)
    return made


def _read(path: Path) -> dict[str, str]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    fit = [file for file in files if file.name in FILES or file.suffix == _OVERLAY]
    if not fit:
        raise DataError(
            f"{path} has no factors, expected {', '.join(FILES)} or a {_OVERLAY} file; "
            "nothing was computed"
        )
    try:
        return {file.name: file.read_text(encoding="utf-8") for file in fit}
    except (OSError, UnicodeDecodeError) as exc:
        raise EstimationError(f"{path}: cannot be read ({exc}); nothing was computed") from exc


def _recorded(version: str, reader: Reader) -> dict[str, str]:
    rows = reader.execute(
        "SELECT factors, content::VARCHAR FROM factor_sets WHERE content IS NOT NULL "
        "ORDER BY recorded_at",
        {},
    ).fetchall()
    for factors, content in rows:
        if factors == version:
            return dict(orjson.loads(content))
    known = ", ".join(["shipped", *dict.fromkeys(factors for factors, _ in rows)])
    raise DataError(
        f"there is no factor set {version!r}: expected a folder or file of factors, or one of "
        f"{known}; nothing was computed"
    )
