"""What a live listener sees: one model call's footprint and where the run stands after it."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.schemas import Usage
from marlin.totals import Footprint

__all__ = ["CarbonEvent"]


@dataclass(frozen=True, slots=True)
class CarbonEvent:
    """One model call, as estimated in this process the moment it returned."""

    usage: Usage
    footprint: Footprint
    run_carbon_g: float
    """The run's carbon after this call, central [gCO2e]."""
    run_water_ml: float
    """The run's water after this call, central [mL]."""
    budget_g: float | None
    """The enforced budget [gCO2e]; None where nothing is enforced."""
    breached: bool
    """Whether the run is over its budget after this call."""

    @property
    def run_id(self) -> str:
        """The run."""
        return self.usage.run_id

    @property
    def agent_id(self) -> str:
        """The agent that made the call."""
        return self.usage.agent_id

    @property
    def model(self) -> str:
        """The model called."""
        return self.usage.model

    @property
    def energy_wh(self) -> float:
        """Energy of this call, central [Wh]."""
        return self.footprint.energy_wh

    @property
    def carbon_g(self) -> float:
        """Operational carbon of this call, central [gCO2e]."""
        return self.footprint.carbon_g

    @property
    def water_ml(self) -> float:
        """Water of this call, central [mL]."""
        return self.footprint.water_ml
