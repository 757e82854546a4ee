"""The fit finds constants again from energies that they made, and holds groups out."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from marlin.estimation.roofline import Roofline, Served, accelerator_seconds, token_energy_j

TOOL = Path(__file__).parents[2] / "tools" / "fit_energy.py"


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location("fit_energy", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its data classes look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FIT = load_tool()
TRUE = Roofline(
    memory_efficiency=0.7,
    narrow_expert_efficiency=0.6,
    compute_efficiency=0.4,
    prefill_efficiency=0.3,
    layer_overhead_s=2e-4,
    layer_overhead_per_doubling_s=2e-5,
    sequence_overhead_s=1.2e-4,
    idle_power_share=0.4,
    sequence_power_share=0.65,
    memory_power_share=0.66,
    compute_power_share=0.95,
)
BASE = Served(
    active=8e9,
    total=8e9,
    expert_share=1.0,
    layers=32,
    weight_bytes=2.0,
    kv_bytes=131_072,
    state_bytes=0.0,
    attention_width=131_072,
    gpus=1,
    batch=8,
    bandwidth=3.35e12,
    flops=989e12,
    flops_16=989e12,
    tdp_w=700,
)


def measured(served: Served, group: str) -> Any:
    """A row as the constants `TRUE` would have measured it."""
    tokens = (250.0, 500.0)
    energy_j = token_energy_j(served, TRUE).of_call(*tokens)
    seconds = accelerator_seconds(served, TRUE).of_call(*tokens)
    return FIT.Measured(
        task="gpqa",
        group=group,
        arch="dense" if served.expert_share == 1 else "experts",
        served=served,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        j_per_token=energy_j / tokens[1],
        power_w=energy_j / seconds * served.gpus,
    )


def rows() -> list[Any]:
    large = replace(BASE, active=70e9, total=70e9, layers=80, gpus=4, kv_bytes=327_680)
    experts = replace(large, active=22e9, total=235e9, expert_share=1 / 16, gpus=8, layers=94)
    narrow = replace(experts, weight_bytes=1.0, flops=1979e12, gpus=4)
    families = {"small": BASE, "large": large, "experts": experts, "narrow": narrow}
    return [
        measured(replace(served, batch=batch), group)
        for group, served in families.items()
        for batch in (8, 32, 128, 512)
    ]


def ratios(constants: Roofline) -> Any:
    return np.array([FIT.modelled(row, constants)[0] / row.j_per_token for row in rows()])


def test_constants_are_found_again_in_what_they_explain() -> None:
    start = Roofline(**{name: median for name, (median, _, _) in FIT.PRIORS.items()})
    # As many rows as the real fit has, or the priors, which start more than 1.5 off, hold it back.
    found = FIT.fit(rows() * 24)
    assert np.max(np.abs(np.log(ratios(start)))) > np.log(1.5)
    assert np.max(np.abs(np.log(ratios(found)))) < np.log(1.12)
    assert np.median(np.abs(np.log(ratios(found)))) < np.log(1.05)


def test_one_wild_row_does_not_bend_the_fit() -> None:
    wild = [replace(row, j_per_token=row.j_per_token * 20) for row in rows()[:1]]
    found = FIT.fit([*wild, *rows()[1:]] * 24)
    assert np.median(np.abs(np.log(ratios(found)))) < np.log(1.05)


def group_of(row: Any) -> str:
    return str(row.group)


def test_held_out_groups_are_not_seen() -> None:
    by_group, fits = FIT.held_out(rows(), group_of)
    assert len(fits) == 4
    unseen = FIT.fit([row for row in rows() if row.group != "narrow"])
    for row, ratio in zip(rows(), by_group, strict=True):
        if row.group == "narrow":
            assert ratio == FIT.modelled(row, unseen)[0] / row.j_per_token
    # Only the narrow experts tell how they fare: without them the prior decides.
    assert abs(unseen.narrow_expert_efficiency - 0.7) < 1e-3


def test_the_summary_counts_factors() -> None:
    assert FIT.summary(np.array([0.5, 1.0, 1.0, 2.5])) == (
        "median ratio 1.00; typical error 1.41x; p90 2.34x; within 2x 75%"
    )
