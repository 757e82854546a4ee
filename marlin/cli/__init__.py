"""The `marlin` command."""

from __future__ import annotations

import sys

__all__ = ["run"]

_NEEDED = ("typer", "rich")


def run() -> None:
    """Entry point of the `marlin` command; exits with 0 (done), 1 (error) or 2 (wrong usage)."""
    try:
        from marlin.cli.main import app
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _NEEDED:
            raise
        # The SDK alone installs without the command line's libraries.
        print("pip install 'marlin-carbon[pipeline]'", file=sys.stderr)
        sys.exit(1)
    app(prog_name="marlin")
