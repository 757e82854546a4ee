"""Names of the quantities that are summed, as they stand in contracts and tables alike."""

from __future__ import annotations

from typing import Final

__all__ = ["FOOTPRINT", "TOKENS"]

TOKENS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
"""Token classes [count]."""

FOOTPRINT: Final = tuple(
    quantity + end
    for quantity in ("energy_wh", "carbon_g", "embodied_g", "water_ml")
    for end in ("", "_low", "_high")
)
"""Central value and range of each quantity; the unit is in the name."""
