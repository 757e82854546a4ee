"""Estimation: from token counts to energy, carbon and water, with honest ranges.

Pure: no network, no clock. The factor files are read once, at the first estimate.
"""

from __future__ import annotations

from marlin.estimation.catalogue import ModelSpec
from marlin.estimation.coefficients import Coefficients
from marlin.estimation.estimator import Estimator, GridIntensity, default_estimator
from marlin.estimation.factorset import FactorSet
from marlin.estimation.hardware import OperatingPoint
from marlin.estimation.ranges import Range
from marlin.estimation.results import Estimate, estimate, estimate_with

__all__ = [
    "Coefficients",
    "Estimate",
    "Estimator",
    "FactorSet",
    "GridIntensity",
    "ModelSpec",
    "OperatingPoint",
    "Range",
    "default_estimator",
    "estimate",
    "estimate_with",
]
