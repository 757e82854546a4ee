"""What a live listener sees: one model call's footprint and where the run stands after it."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.runtime.outgoing import RecordedCall
from marlin.schemas import Usage
from marlin.totals import Footprint

__all__ = ["CarbonEvent"]


@dataclass(slots=True)
class CarbonEvent:
    """One model call, as estimated in this process the moment it returned."""

    # Not frozen: that would make each of them twice as dear, in the agent's thread.
    call: RecordedCall
    taken: tuple[float, ...]
    """The values of `footprint`."""
    run_carbon_g: float
    """The run's carbon after this call, central [gCO2e]."""
    run_water_ml: float
    """The run's water after this call, central [mL]."""
    budget_g: float | None
    """The enforced budget [gCO2e]; None where nothing is enforced."""
    breached: bool
    """Whether the run is over its budget after this call."""

    @property
    def footprint(self) -> Footprint:
        """Energy, carbon, embodied carbon and water of this call, with ranges."""
        return Footprint._make(self.taken)

    @property
    def usage(self) -> Usage:
        """The call's event, as the pipeline gets it. Made anew at each look."""
        return self.call.usage()

    @property
    def run_id(self) -> str:
        """The run."""
        return self.call.run_id

    @property
    def agent_id(self) -> str:
        """The agent that made the call."""
        return self.call.agent_id

    @property
    def model(self) -> str:
        """The model called."""
        return self.call.model

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
