"""Carbon-aware routing: where, when and with which model a job costs the climate least."""

from __future__ import annotations

from marlin.routing.models import ModelChoice, select_model
from marlin.routing.option import RegionChoice
from marlin.routing.router import CarbonAwareRouter
from marlin.routing.score import STRATEGIES, Strategy

__all__ = [
    "STRATEGIES",
    "CarbonAwareRouter",
    "ModelChoice",
    "RegionChoice",
    "Strategy",
    "select_model",
]
