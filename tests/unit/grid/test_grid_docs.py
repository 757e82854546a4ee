from __future__ import annotations

import re
from pathlib import Path

from marlin.grid.generation import FACTORS
from marlin.grid.opening import PROVIDERS
from marlin.settings import GridSettings

PAGE = (Path(__file__).parents[3] / "docs" / "grid.md").read_text()


def test_every_setting_is_on_the_page_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `MARLIN_GRID__([A-Z0-9_]+)` \| ([^|]*) \|", PAGE, re.MULTILINE))
    expected: dict[str, str] = {}
    for name, setting in GridSettings.model_fields.items():
        default = setting.default
        text = f"{default:g}" if isinstance(default, float) else str(default)
        expected[name.upper()] = "" if default in (None, ()) else f"`{text}`"

    assert rows == expected


def test_every_provider_is_on_the_page() -> None:
    assert [name for name in PROVIDERS if f"\n| `{name}` |" not in PAGE] == []


def test_the_factors_are_on_the_page() -> None:
    told = {
        "unknown": "unknown fuels 700",
        **{fuel: f"{fuel} {f.g_per_kwh:g}" for fuel, f in FACTORS.items() if fuel != "unknown"},
    }
    text = " ".join(PAGE.split())

    assert [words for words in told.values() if words not in text] == []
