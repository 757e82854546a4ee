"""Writes the JSON Schema of a report to where it is published: `python -m marlin.reports`."""

from __future__ import annotations

from pathlib import Path

from marlin.reports.report import SCHEMA_FILE, schema_text

if __name__ == "__main__":
    (Path(__file__).parent / SCHEMA_FILE).write_text(schema_text(), encoding="utf-8")
