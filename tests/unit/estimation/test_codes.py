"""Reason codes: each has a meaning and an anchor in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

from marlin.estimation import CODES

METHODOLOGY = Path(__file__).parents[3] / "docs" / "methodology.md"
SOURCES = Path(__file__).parents[3] / "marlin" / "estimation"


def test_every_code_is_in_the_methodology() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", METHODOLOGY.read_text(), re.MULTILINE)
    assert {code: meaning for code, meaning in rows if code in CODES} == CODES


def test_no_code_is_left_over() -> None:
    text = "".join(path.read_text() for path in SOURCES.glob("*.py") if path.stem != "codes")
    text += (SOURCES / "data" / "factors.csv").read_text()
    for code in CODES:
        stem = re.sub(r"_(withdrawal|unstated|country|world)$", "_", code)
        assert code in text or stem in text, code
