"""Writes the measured tables into `docs/performance.md`, so that no figure is typed by hand.

The figures themselves are kept beside the page's plots, as JSON.

    python bench/report.py [bench/out/apache.json bench/out/embedded.json]

Everything between `<!-- figures:NAME -->` and `<!-- /figures -->` is replaced, where NAME is
`BROKER PART`, or `BROKER machine`. Exits with 1 if a marker's figures were never measured.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from machine import ROOT
from tables import tables

PAGE = ROOT / "docs/performance.md"
KEPT = ROOT / "docs/performance"
PLOTTED = ("throughput", "scaling", "latency")
_MARKED = re.compile(
    r"(?P<begin><!-- figures:(?P<broker>\w+) (?P<part>\w+) -->\n).*?(?P<end><!-- /figures -->)",
    re.DOTALL,
)


def section(figures: dict[str, Any], part: str) -> str | None:
    """Markdown of one part, or None if it was not measured."""
    if part == "machine":
        return _machine(figures)
    if part not in figures:
        return None
    made = [
        f"**{table.title}**\n\n{table.as_markdown()}\n" for table in tables({part: figures[part]})
    ]
    broker = figures[part]["figures"].get("broker") if part in PLOTTED else None
    plot = KEPT / f"{part}-{broker}.png"
    if plot.exists():
        made.append(f"![{part}]({plot.relative_to(PAGE.parent)})\n")
    return "\n".join(made) + f"\nMeasured {figures[part]['at']} UTC.\n"


def _machine(figures: dict[str, Any]) -> str | None:
    if not figures:
        return None
    machine = next(iter(figures.values()))["machine"]
    return (
        f"{machine['processor'] or 'Processor unknown'}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB; {machine['system']}, Python {machine['python']}.\n"
    )


def write(page: str, measured: dict[str, dict[str, Any]]) -> tuple[str, list[str]]:
    """The page with its figures, and the markers that have none."""
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        text = section(measured.get(match["broker"], {}), match["part"])
        if text is None:
            missing.append(f"{match['broker']} {match['part']}")
            text = "Not measured yet.\n"
        return f"{match['begin']}{text}{match['end']}"

    return _MARKED.sub(replace, page), missing


def main() -> int:
    paths = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "bench/out").glob("[ae]*.json"))
    measured = {path.stem: json.loads(path.read_text()) for path in paths}
    page, missing = write(PAGE.read_text(), measured)
    PAGE.write_text(page)
    KEPT.mkdir(exist_ok=True)
    for path in paths:
        shutil.copyfile(path, KEPT / path.name)
    for marker in missing:
        print(f"not measured: {marker}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
