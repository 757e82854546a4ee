"""`carbon` and `lifecycle`: what the worker derives, one record per accepted event.

Derived figures are flat and named as the DuckDB columns are: `energy_wh` is the central value,
`energy_wh_low` and `energy_wh_high` its range.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field

from marlin.schemas.base import Contract, Id, NonNegative
from marlin.schemas.runs import AbortAcknowledged, RunFinished, RunStarted
from marlin.schemas.usage import Usage

__all__ = ["Carbon", "Lifecycle", "LifecycleEvent", "SourcePosition"]


class SourcePosition(NamedTuple):
    """Where on the events topic a derived record comes from."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `topic-partition-offset`; raises ValueError on anything else."""
        topic, partition, offset = text.rsplit("-", 2)
        return cls(topic, int(partition), int(offset))


Source = Annotated[str, Field(pattern=r"^.+-\d+-\d+$")]
"""Source position as `topic-partition-offset`; readers drop what they have already seen."""


class Carbon(Contract):
    """The footprint of one model call."""

    type: Literal["carbon"] = "carbon"
    source: Source
    usage: Usage
    """The call, as its runtime sent it. On the wire its optional fields may be absent."""
    energy_wh: NonNegative
    energy_wh_low: NonNegative
    energy_wh_high: NonNegative
    carbon_g: NonNegative
    carbon_g_low: NonNegative
    carbon_g_high: NonNegative
    embodied_g: NonNegative
    embodied_g_low: NonNegative
    embodied_g_high: NonNegative
    water_ml: NonNegative
    water_ml_low: NonNegative
    water_ml_high: NonNegative
    intensity_g_per_kwh: NonNegative
    method: Id
    factors: Id
    quality: tuple[str, ...]
    """Codes that say what was assumed: `model_unknown`, `region_world`, …"""
    run_calls: int
    """The run's calls after this event [count]; the three that follow are its sums, too."""
    run_energy_wh: NonNegative
    run_carbon_g: NonNegative
    run_water_ml: NonNegative


LifecycleEvent = Annotated[
    RunStarted | RunFinished | AbortAcknowledged, Field(discriminator="type")
]


class Lifecycle(Contract):
    """An accepted lifecycle event, forwarded with its position so that sinks read one log."""

    type: Literal["lifecycle"] = "lifecycle"
    source: Source
    run_id: Id
    event: LifecycleEvent
