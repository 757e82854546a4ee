"""Writes `schemas/generated`: a JSON Schema per event family, and the AsyncAPI document.

`python -m marlin.schemas.generate` writes the files, `--check` only tells whether they are what
the contracts say (exit code 1 when not).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from marlin.schemas import examples
from marlin.schemas.asyncapi import asyncapi_document
from marlin.schemas.base import Contract
from marlin.schemas.json_schema import as_json, header_example, header_schema, json_schema

__all__ = ["DIRECTORY", "FAMILIES", "drift", "generated_files", "main"]

DIRECTORY = Path(__file__).parent / "generated"

FAMILIES: Mapping[str, Contract] = {
    "usage": examples.USAGE,
    "run.started": examples.RUN_STARTED,
    "run.finished": examples.RUN_FINISHED,
    "abort.acknowledged": examples.ABORT_ACKNOWLEDGED,
    "carbon": examples.CARBON,
    "lifecycle": examples.LIFECYCLE,
    "command": examples.COMMAND,
    "grid": examples.GRID,
}
"""Every event family by its `type`, with an example. The dead letter travels as headers."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def generated_files() -> dict[str, bytes]:
    """What `schemas/generated` must hold: content by file name."""
    documents: dict[str, dict[str, Any]] = {}
    for family, example in FAMILIES.items():
        documents[f"{family}.schema.json"] = {
            **_head(family),
            **json_schema(type(example)),
            "examples": [as_json(example)],
        }
    documents["deadletter-headers.schema.json"] = {
        **_head("deadletter-headers"),
        **header_schema(),
        "examples": [header_example(examples.DEAD_LETTER)],
    }
    documents["asyncapi.json"] = asyncapi_document()
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {name: orjson.dumps(content, option=options) for name, content in documents.items()}


def _head(family: str) -> dict[str, str]:
    return {"$schema": _DIALECT, "$id": f"urn:marlin:{family}:v1"}


def drift(directory: Path) -> list[str]:
    """Names of the files in `directory` that are missing, differ, or should not be there."""
    expected = generated_files()
    found = {path.name: path.read_bytes() for path in directory.glob("*.json")}
    return sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )


def main(arguments: Sequence[str] | None = None, directory: Path = DIRECTORY) -> int:
    """Write the files, or check them; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m marlin.schemas.generate",
        description="Write schemas/generated from the contracts.",
    )
    parser.add_argument("--check", action="store_true", help="only report files that differ")
    only_check: bool = parser.parse_args(arguments).check
    stale = drift(directory)
    if only_check:
        if stale:
            print(
                f"schemas/generated differs from the contracts: {', '.join(stale)}; "
                "run `make schemas` and commit the result",
                file=sys.stderr,
            )
        return 1 if stale else 0
    directory.mkdir(exist_ok=True)
    for name in stale:
        (directory / name).unlink(missing_ok=True)
    for name, content in generated_files().items():
        (directory / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
