"""The table `factor_sets` of a lake: each set once, whichever sink meets it first."""

from __future__ import annotations

from collections.abc import Iterable

from marlin.sinks.factor_sets import FactorSets, SetUse

__all__ = ["LakeFactorSets"]


class LakeFactorSets(FactorSets):
    """As `FactorSets`, where another sink may list a set at the same time."""

    def record(self, uses: Iterable[SetUse]) -> None:
        """As `FactorSets.record`, leaving out what another sink has listed meanwhile."""
        wanted = set(uses)
        if wanted:
            # Of two sinks that list a set at once, the second conflicts, and finds it listed.
            self._connection.execute("UPDATE parts.turns_factor_sets SET turn = turn + 1")
            super().record(wanted - self._read("factor_sets"))
