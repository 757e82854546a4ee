"""ESG reports of runs and periods: JSON, CSV, web page and spreadsheet.

Light to import: the database, templates and plots are loaded when a report is made.
"""

from __future__ import annotations

from marlin.reports.report import Report
from marlin.reports.reporter import ESGReporter

__all__ = ["ESGReporter", "Report"]
