"""A run whose events a test can read."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime_doubles import Sink

from marlin.estimation import default_estimator
from marlin.runtime.meter import MeteredRun
from marlin.runtime.run import Run
from marlin.schemas import Policy, Usage

__all__ = ["Metered"]


@dataclass
class Metered:
    """A run of the meter, and what it sends."""

    carbon_budget_g: float | None = None
    preflight: bool = True
    sink: Sink = field(default_factory=Sink)
    run: MeteredRun = field(init=False)

    def __post_init__(self) -> None:
        core = Run(
            "run-1",
            Policy(carbon_budget_g=self.carbon_budget_g),
            default_estimator(),
            sink=self.sink,
            preflight=self.preflight,
        )
        self.run = MeteredRun(core)

    @property
    def usage(self) -> list[Usage]:
        """The calls that were counted."""
        return [event for event in self.sink.events if isinstance(event, Usage)]

    @property
    def tokens(self) -> list[tuple[int, int, int, int, int, str]]:
        """Of each call: fresh input, cache read, cache write, output, of which reasoning; how the
        counts came about."""
        return [
            (
                *(one.input_tokens, one.cache_read_tokens, one.cache_write_tokens),
                *(one.output_tokens, one.reasoning_tokens, one.usage_quality),
            )
            for one in self.usage
        ]
