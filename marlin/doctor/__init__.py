"""`marlin doctor`: is everything well, do all accounts agree, and what to do if not."""

from __future__ import annotations

from marlin.doctor.check import Check, Status
from marlin.doctor.examination import examine

__all__ = ["Check", "Status", "examine"]
