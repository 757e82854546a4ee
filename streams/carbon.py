"""The part of a carbon record that differs from call to call."""

from __future__ import annotations

import msgspec

__all__ = ["Figures", "encode_figures"]


class Figures(msgspec.Struct, gc=False):
    """A call's footprint and its run's sums after it, as `marlin.schemas.Carbon` names them."""

    energy_wh: float
    energy_wh_low: float
    energy_wh_high: float
    carbon_g: float
    carbon_g_low: float
    carbon_g_high: float
    embodied_g: float
    embodied_g_low: float
    embodied_g_high: float
    water_ml: float
    water_ml_low: float
    water_ml_high: float
    run_calls: int
    run_energy_wh: float
    run_carbon_g: float
    run_water_ml: float


encode_figures = msgspec.json.Encoder().encode
"""The figures as a JSON object."""
