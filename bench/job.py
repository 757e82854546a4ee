"""The job that Marlin's peers do: event for event what Marlin's worker does, in plain Python.

Decoding and validation (msgspec, the fields and limits of the contract), the estimate with its
ranges (Marlin's own), run and agent totals, the budget, and one carbon record out. State is one
row a run, made of lists and dicts so that every framework's store can keep it; storing it and its
changelog are the framework's part. Duplicates are not looked for, which favours the peers.
"""

from __future__ import annotations

import sys
from datetime import datetime
from operator import add
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marlin.estimation import default_estimator

__all__ = ["decode", "handle", "new_row"]

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Label = Annotated[str, msgspec.Meta(max_length=256)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Utc = Annotated[datetime, msgspec.Meta(tz=True)]


class Usage(msgspec.Struct, tag_field="type", tag="usage", forbid_unknown_fields=True, gc=False):
    """One model call."""

    event_id: Id
    run_id: Id
    agent_id: Id
    producer_id: Id
    seq: Annotated[int, msgspec.Meta(ge=0)]
    time: Utc
    provider: Label
    model: Id
    region: Label
    input_tokens: Tokens
    output_tokens: Tokens
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    latency_s: NonNegative | None = None
    cost_usd: NonNegative | None = None
    tenant: Label | None = None
    project: Label | None = None
    labels: dict[Id, Label] | None = None
    usage_quality: Literal["reported", "partial", "estimated", "missing"] = "reported"


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run's budget."""

    enable_environmental: bool = True
    carbon_budget_g: NonNegative | None = None
    warn_at: tuple[float, ...] = ()
    bound: Literal["low", "central", "high"] = "central"
    action: Literal["abort", "pause", "warn"] = "abort"
    cancel_in_flight: bool = False


class RunStarted(msgspec.Struct, tag_field="type", tag="run.started", forbid_unknown_fields=True):
    """A run begins."""

    run_id: Id
    time: Utc
    task: str | None = None
    tenant: Label | None = None
    project: Label | None = None
    policy: Policy = Policy()


decode = msgspec.json.Decoder(Usage | RunStarted).decode
_coefficients = default_estimator().coefficients

_NOTHING = [0, 0, 0, *[0.0] * 12]
# Calls, input and output tokens, and the twelve figures of a footprint.


def new_row() -> dict[str, Any]:
    """The state of a run of which nothing is known."""
    return {"t": _NOTHING, "a": {}, "budget_g": None, "breached": False}


def handle(row: dict[str, Any], event: Usage | RunStarted, value: bytes, source: str) -> bytes:
    """Apply `event`, whose bytes are `value`, to its run's `row`; returns the record derived."""
    if isinstance(event, RunStarted):
        row["budget_g"] = event.policy.carbon_budget_g
        return orjson.dumps(
            {
                "type": "lifecycle",
                "source": source,
                "run_id": event.run_id,
                "event": orjson.Fragment(value),
            }
        )
    by = _coefficients(event.model, event.provider, event.region, event.time)
    energy_wh, carbon_g, embodied_g, water_ml = by.footprint(
        event.input_tokens, event.cache_read_tokens, event.cache_write_tokens, event.output_tokens
    )
    of = (
        *(energy_wh, energy_wh * by.energy_low, energy_wh * by.energy_high),
        *(carbon_g, carbon_g * by.carbon_low, carbon_g * by.carbon_high),
        *(embodied_g, embodied_g * by.embodied_low, embodied_g * by.embodied_high),
        *(water_ml, water_ml * by.water_low, water_ml * by.water_high),
    )
    added = (1, event.input_tokens, event.output_tokens, *of)
    row["t"] = totals = list(map(add, row["t"], added))
    agents = row["a"]
    agents[event.agent_id] = list(map(add, agents.get(event.agent_id, _NOTHING), added))
    if row["budget_g"] is not None and totals[6] > row["budget_g"]:
        row["breached"] = True
    return orjson.dumps(
        {
            "type": "carbon",
            "source": source,
            "usage": orjson.Fragment(value),
            "energy_wh": of[0],
            "energy_wh_low": of[1],
            "energy_wh_high": of[2],
            "carbon_g": of[3],
            "carbon_g_low": of[4],
            "carbon_g_high": of[5],
            "embodied_g": of[6],
            "embodied_g_low": of[7],
            "embodied_g_high": of[8],
            "water_ml": of[9],
            "water_ml_low": of[10],
            "water_ml_high": of[11],
            "intensity_g_per_kwh": by.intensity_g_per_kwh,
            "method": by.method,
            "factors": by.factors,
            "quality": by.codes,
            "run_calls": totals[0],
            "run_energy_wh": totals[3],
            "run_carbon_g": totals[6],
            "run_water_ml": totals[12],
        }
    )
