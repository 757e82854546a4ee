"""Estimation: from token counts to energy, carbon and water, with honest ranges.

Pure: no network, no clock. The factor files are read once, at the first estimate.
"""

from __future__ import annotations

from marlin.estimation.catalogue import ModelSpec
from marlin.estimation.codes import CODES
from marlin.estimation.coefficients import Coefficients, Ranged
from marlin.estimation.columns import estimate_columns
from marlin.estimation.derivation import Derivation, explain
from marlin.estimation.estimator import Estimator, GridIntensity, default_estimator
from marlin.estimation.factorset import FactorSet, shipped_factor_set
from marlin.estimation.hardware import OperatingPoint
from marlin.estimation.overrides import load_factor_set
from marlin.estimation.ranges import Range
from marlin.estimation.results import Estimate, estimate, estimate_with

__all__ = [
    "CODES",
    "Coefficients",
    "Derivation",
    "Estimate",
    "Estimator",
    "FactorSet",
    "GridIntensity",
    "ModelSpec",
    "OperatingPoint",
    "Range",
    "Ranged",
    "default_estimator",
    "estimate",
    "estimate_columns",
    "estimate_with",
    "explain",
    "load_factor_set",
    "shipped_factor_set",
]
