"""What the ledger does not hold: on-site and off-site water, market-based carbon, and citations.

They follow from the energy by the very coefficients that the estimate was made with, so they need
the content of the factor set that the estimate names: the shipped one, or one on record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final

import orjson

from marlin.errors import DataError, EstimationError
from marlin.estimation import Estimator, shipped_factor_set
from marlin.estimation.factorset import FILES, build_factor_set
from marlin.estimation.places import Place, PlaceFactor
from marlin.reports.model import Factor

__all__ = ["FACTOR_SETS_SQL", "KEYS", "SourceRow", "Sources", "cite", "cited", "stress_class"]

KEYS: Final = ("provider", "model", "region", "factors")
"""What coefficients depend on."""

FACTOR_SETS_SQL: Final = (
    "SELECT factors, max(content::VARCHAR) AS content FROM factor_sets "
    "WHERE content IS NOT NULL GROUP BY factors ORDER BY factors"
)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """Coefficients of one key, for a query."""

    values: tuple[str | float | None, ...]

    COLUMNS: ClassVar[Mapping[str, type]] = {
        **dict.fromkeys(KEYS, str),
        **dict.fromkeys(("offsite", "offsite_low", "offsite_high"), float),
        **dict.fromkeys(("onsite", "onsite_low", "onsite_high"), float),
        "basis": str,
        **dict.fromkeys(("market", "market_low", "market_high", "pue"), float),
        "stress": str,
    }
    """Names of `values` and what they are."""


class Sources:
    """Finds places and coefficients by the factor set that an estimate names."""

    def __init__(self, contents: Mapping[str, str]) -> None:
        """`contents`: recorded factor sets, version to JSON (an object of file names to texts)."""
        self._contents = contents
        self._estimators: dict[str, Estimator | None] = {}

    def knows(self, factors: str) -> bool:
        """Whether the content of a factor set is on record."""
        return self._estimator(factors) is not None

    def coefficients(self, keys: Iterable[tuple[str, str, str, str]]) -> list[SourceRow]:
        """Coefficients of each (provider, model, region, factors) whose factor set is known."""
        rows: list[SourceRow] = []
        for provider, model, region, factors in keys:
            estimator = self._estimator(factors)
            if estimator is None:
                continue
            c = estimator.coefficients(model, provider, region)
            place = self.place(provider, region, factors)
            assert place is not None
            market = c.market_g_per_wh
            rows.append(
                SourceRow(
                    (
                        *(provider, model, region, factors),
                        *(c.water_offsite_ml_per_wh, c.water_offsite_low, c.water_offsite_high),
                        *(c.water_onsite_ml_per_wh, c.water_onsite_low, c.water_onsite_high),
                        c.water_onsite_basis,
                        market,
                        *((None, None) if market is None else (c.carbon_low, c.carbon_high)),
                        place.pue.value,
                        stress_class(place.water_stress),
                    )
                )
            )
        return rows

    def place(self, provider: str, region: str, factors: str) -> Place | None:
        """What a region's name means by a factor set; None: the set is not on record."""
        estimator = self._estimator(factors)
        if estimator is None:
            return None
        return estimator.resolve("", provider=provider, region=region).place

    def _estimator(self, factors: str) -> Estimator | None:
        if factors not in self._estimators:
            self._estimators[factors] = self._load(factors)
        return self._estimators[factors]

    def _load(self, factors: str) -> Estimator | None:
        shipped = shipped_factor_set()
        if factors == shipped.version:
            return Estimator(shipped)
        if factors not in self._contents:
            return None
        texts: dict[str, Any] = orjson.loads(self._contents[factors])
        if not set(FILES) <= set(texts):
            return None
        try:
            return Estimator(build_factor_set(texts, factors.rpartition("-")[0]))
        except EstimationError as exc:
            raise DataError(
                f"factor set {factors} on record cannot be read ({exc}); nothing was reported"
            ) from exc


def cite(factor: PlaceFactor) -> Factor:
    """A place's value with its citation."""
    return Factor(
        quantity=factor.quantity,
        scope=factor.scope,
        key=factor.key,
        value=Decimal(repr(factor.value)),
        unit=factor.unit,
        basis=factor.basis,
        year=factor.citation.date,
        source=factor.citation.source,
        licence=factor.citation.licence,
        tier=factor.citation.tier,
    )


def cited(place: Place) -> tuple[Factor, ...]:
    """The values that estimates of a place rest on."""
    found = (
        *(place.intensity, place.pue, place.onsite_water),
        *(place.offsite_water, place.water_stress, place.market_intensity),
    )
    return tuple(cite(factor) for factor in found if factor is not None)


def stress_class(factor: PlaceFactor | None) -> str | None:
    """WRI Aqueduct's class of a baseline water stress score: five equal steps from 0 to 5.

    Source: Aqueduct 4.0 (Kuzma et al. 2023), table of raw values, scores and labels.
    """
    if factor is None:
        return None
    labels = ("Low", "Low-Medium", "Medium-High", "High", "Extremely High")
    return labels[min(int(factor.value), 4)]
