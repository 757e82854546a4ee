"""`python -m marlin.reference` writes the pages, `--check` only tells whether they are as the code.

Exit code 1 when a page is not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from marlin.reference import settings

__all__ = ["FOLDER", "PAGES", "main"]

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
"""Where the pages are, in a checkout."""

PAGES: Mapping[str, Callable[[], str]] = {"settings.md": settings.page}
"""File names, and what writes them."""


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Write the pages, or check them; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m marlin.reference",
        description="Write docs/reference from the code.",
    )
    parser.add_argument("--check", action="store_true", help="only report what differs")
    only_check: bool = parser.parse_args(arguments).check
    expected = {folder / name: page() for name, page in PAGES.items()}
    if not only_check:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in expected.items():
            path.write_text(text, encoding="utf-8")
        return 0
    wrong = [
        path
        for path, text in expected.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in wrong:
        print(f"{path} is not what the code says; run `make docs`", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
