"""What the commands print: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

__all__ = ["AsJson", "err", "out", "print_error", "print_json"]

_PIPE_WIDTH = 200

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead, for programs.")]
"""The `--json` flag of every command that prints results."""


def out() -> Console:
    """For results. Made when used: tests and pipes replace `sys.stdout`."""
    # A pipe has no width; rich would cut tables off at 80 columns.
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(file=sys.stdout, highlight=False, width=_PIPE_WIDTH if piped else None)


def err() -> Console:
    """For progress, remarks and errors."""
    return Console(file=sys.stderr, highlight=False)


def print_json(value: Mapping[str, object] | Sequence[Mapping[str, object]]) -> None:
    """Print one JSON value on one line. Times and paths appear as text."""
    print(json.dumps(value, default=str), flush=True)


def print_error(message: str) -> None:
    """Say what went wrong."""
    # Text, not markup: a message may contain brackets of its own.
    err().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
