"""`python -m marlin.cli`: how `marlin up` starts its worker and its sink."""

from __future__ import annotations

from marlin.cli import run

if __name__ == "__main__":
    run()
