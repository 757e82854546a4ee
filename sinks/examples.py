"""Queries that show what can be asked: for `docs/sql.md`, the prompt and whoever offers them.

They are kept in `sinks/sql/examples.sql`: paragraphs, each a comment line with the title, comment
lines with a sentence or two, and one query.
"""

from __future__ import annotations

import importlib.resources
from functools import lru_cache
from typing import NamedTuple

from marlin.errors import ConfigurationError

__all__ = ["Example", "example_queries", "parse_examples"]

_COMMENT = "-- "


class Example(NamedTuple):
    """A query that runs on every database of this Marlin."""

    title: str
    about: str
    """What it shows, in words."""
    sql: str
    """One statement, without a semicolon."""


@lru_cache(maxsize=1)
def example_queries() -> tuple[Example, ...]:
    """All examples, in the order in which they are shown."""
    file = importlib.resources.files("marlin.sinks") / "sql" / "examples.sql"
    return parse_examples(file.read_text(encoding="utf-8"))


def parse_examples(text: str) -> tuple[Example, ...]:
    """Examples from the text of such a file.

    Raises `ConfigurationError` for a paragraph without a title, a sentence and one query.
    """
    return tuple(_parse(paragraph) for paragraph in text.strip().split("\n\n"))


def _parse(paragraph: str) -> Example:
    lines = paragraph.splitlines()
    said = [line.removeprefix(_COMMENT) for line in lines if line.startswith(_COMMENT)]
    sql = "\n".join(lines[len(said) :])
    if len(said) < 2 or sql.count(";") != 1 or not sql.endswith(";"):
        raise ConfigurationError(
            "an example is a title and a sentence, each a comment line, and one query that ends "
            f"with a semicolon; found {paragraph[:80]!r}"
        )
    return Example(said[0], " ".join(said[1:]), sql.removesuffix(";"))
