"""The footprint of a call, and sums over calls. Pure; the worker and the SDK share it, so that
both come to the same grams, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, Self

from marlin import budget
from marlin.estimation import Coefficients, Range
from marlin.schemas import Policy

__all__ = [
    "MAX_AGENTS",
    "OTHER_AGENTS",
    "AgentCall",
    "Call",
    "Footprint",
    "RunTotals",
    "Totals",
    "footprint",
]


MAX_AGENTS = 1000
"""Agents of a run that are counted apart [count]; usage of further ones is summed under
`OTHER_AGENTS`. DuckDB keeps every agent: this bounds what is in memory and in the run table."""

OTHER_AGENTS = "(other agents)"


class Footprint(NamedTuple):
    """Energy [Wh], carbon, embodied carbon [gCO2e] and water [mL] of one call, with ranges."""

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


class Call(Protocol):
    """What counting needs of a usage event."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def reasoning_tokens(self) -> int: ...
    @property
    def cost_usd(self) -> float | None: ...
    @property
    def time(self) -> datetime: ...


class AgentCall(Call, Protocol):
    """What counting for an agent needs besides."""

    @property
    def agent_id(self) -> str: ...


def footprint(call: Call, by: Coefficients) -> Footprint:
    """The footprint of `call`: a handful of multiplications by compiled coefficients."""
    return Footprint._make(
        by.ranged(
            call.input_tokens, call.cache_read_tokens, call.cache_write_tokens, call.output_tokens
        )
    )


_COUNTS = (
    "calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "priced_calls",
)
_SUMS = (*Footprint._fields, "known_cost_usd")


class Totals:
    """Running sums of a run or of one of its agents.

    Sums are made in log order, so that the same log always gives the same floats.
    """

    __slots__ = (*_COUNTS, *_SUMS, "first_event_at", "last_event_at")

    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    priced_calls: int
    """Calls whose cost is known [count]."""
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
    known_cost_usd: float
    """Sum of the known costs [USD]."""
    first_event_at: datetime | None
    last_event_at: datetime | None

    def __init__(self) -> None:
        # Spelled out: a loop over the names takes ten times as long, and a run begins with this.
        self.calls = self.input_tokens = self.cache_read_tokens = self.cache_write_tokens = 0
        self.output_tokens = self.reasoning_tokens = self.priced_calls = 0
        self.energy_wh = self.energy_wh_low = self.energy_wh_high = 0.0
        self.carbon_g = self.carbon_g_low = self.carbon_g_high = 0.0
        self.embodied_g = self.embodied_g_low = self.embodied_g_high = 0.0
        self.water_ml = self.water_ml_low = self.water_ml_high = 0.0
        self.known_cost_usd = 0.0
        self.first_event_at: datetime | None = None
        self.last_event_at: datetime | None = None

    def add(self, call: Call, of: Sequence[float]) -> None:
        """Count one call; `of` is its `Footprint`."""
        self.calls += 1
        self.input_tokens += call.input_tokens
        self.cache_read_tokens += call.cache_read_tokens
        self.cache_write_tokens += call.cache_write_tokens
        self.output_tokens += call.output_tokens
        self.reasoning_tokens += call.reasoning_tokens
        self.energy_wh += of[0]
        self.energy_wh_low += of[1]
        self.energy_wh_high += of[2]
        self.carbon_g += of[3]
        self.carbon_g_low += of[4]
        self.carbon_g_high += of[5]
        self.embodied_g += of[6]
        self.embodied_g_low += of[7]
        self.embodied_g_high += of[8]
        self.water_ml += of[9]
        self.water_ml_low += of[10]
        self.water_ml_high += of[11]
        cost_usd = call.cost_usd
        if cost_usd is not None:
            self.priced_calls += 1
            self.known_cost_usd += cost_usd
        time = call.time
        if self.last_event_at is None or time > self.last_event_at:
            self.last_event_at = time
            if self.first_event_at is not None:
                return
        if self.first_event_at is None or time < self.first_event_at:
            self.first_event_at = time

    def merge(self, other: Totals) -> None:
        """Add what `other` counted."""
        for name in (*_COUNTS, *_SUMS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        first, last = other.first_event_at, other.last_event_at
        if first is not None and last is not None:
            self.first_event_at = min(self.first_event_at or first, first)
            self.last_event_at = max(self.last_event_at or last, last)

    @property
    def tokens(self) -> int:
        """All tokens, cached ones included [count]."""
        cached = self.cache_read_tokens + self.cache_write_tokens
        return self.input_tokens + cached + self.output_tokens

    @property
    def cost_usd(self) -> float | None:
        """Sum of the known costs [USD]; None where calls were made and none said its cost."""
        return None if self.calls and not self.priced_calls else self.known_cost_usd

    @property
    def carbon_range_g(self) -> Range:
        """Operational carbon with its range [gCO2e]. Ends add up with ends: a factor's error is
        shared by all calls and does not average out."""
        return Range(self.carbon_g_low, self.carbon_g, self.carbon_g_high)

    def spent_g(self, policy: Policy) -> float:
        """What counts against the policy's budget [gCO2e]."""
        return budget.spent_g(policy, self.carbon_g_low, self.carbon_g, self.carbon_g_high)

    def dump(self) -> tuple[Any, ...]:
        """For orjson: values in the order of `__slots__`."""
        return _VALUES(self)

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> Self:
        """What `dump` gave and orjson carried, to the last digit."""
        totals = cls()
        for name, value in zip((*_COUNTS, *_SUMS), dumped, strict=False):
            setattr(totals, name, value)
        totals.first_event_at, totals.last_event_at = map(_moment, dumped[-2:])
        return totals


_VALUES = attrgetter(*Totals.__slots__)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


class RunTotals:
    """What a run and its agents used so far, added up in log order.

    The run's own sums are the six that every event needs, so that the same log always gives the
    same floats, in the worker as in the SDK; all else is the sum over the agents.
    """

    __slots__ = (
        *("agents", "calls", "carbon_g", "carbon_g_high", "carbon_g_low"),
        *("energy_wh", "water_ml"),
    )

    def __init__(self) -> None:
        self.agents: dict[str, Totals] = {}
        self.calls = 0
        """Usage events counted."""
        self.energy_wh = 0.0
        self.carbon_g = 0.0
        self.carbon_g_low = 0.0
        self.carbon_g_high = 0.0
        self.water_ml = 0.0

    def count(self, call: AgentCall, of: Sequence[float]) -> None:
        """Add one call to the run and its agent; `of` is its `Footprint`."""
        self.calls += 1
        self.energy_wh += of[0]
        self.carbon_g += of[3]
        self.carbon_g_low += of[4]
        self.carbon_g_high += of[5]
        self.water_ml += of[9]
        agent = self.agents.get(call.agent_id)
        if agent is None:
            agent = self._new_agent(call.agent_id)
        agent.add(call, of)

    @property
    def totals(self) -> Totals:
        """Everything the run used, made anew."""
        totals = Totals()
        for agent in self.agents.values():
            totals.merge(agent)
        # Sums of sums differ in the last digit; the run's own are the ones that count.
        totals.energy_wh, totals.water_ml = self.energy_wh, self.water_ml
        totals.carbon_g = self.carbon_g
        totals.carbon_g_low, totals.carbon_g_high = self.carbon_g_low, self.carbon_g_high
        return totals

    def _new_agent(self, agent_id: str) -> Totals:
        if len(self.agents) >= MAX_AGENTS:
            agent_id = OTHER_AGENTS
        return self.agents.setdefault(agent_id, Totals())
