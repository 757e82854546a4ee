"""Reason codes: what an estimate assumed. Each is an anchor in `docs/methodology.md`."""

from __future__ import annotations

__all__ = ["CODES"]

CODES: dict[str, str] = {
    "model_unknown": "the name is not in the catalogue",
    "model_family": "the nearest catalogued relative of the name stands in",
    "model_size_from_name": "the parameters are those that the name tells",
    "model_class": "a generic size class, not a particular model",
    "parameters_undisclosed": "the vendor publishes no size: a size class with a wide range",
    "hardware_assumed": "no accelerator was given: H100",
    "hardware_unknown": "the accelerator given is not in the table: H100 stands in",
    "gpus_assumed": "no accelerator count was given: as many as hold the weights",
    "precision_assumed": "no weight precision was given: the one the model is usually served at",
    "precision_unknown": "the precision given is not known: the model's usual one stands in",
    "batch_commercial": "load assumed: a vendor's service of its own model",
    "batch_api": "load assumed: open weights at a provider",
    "batch_unknown": "load assumed: open weights, provider not named",
    "batch_self_hosted": "load assumed: a server of one's own, lightly loaded",
    "batch_batch_api": "load assumed: a batch service",
    "region_missing": "no region was given",
    "region_unknown": "the region is not in the tables",
    "region_zone": "only the grid zone is known",
    "region_country": "only the country is known",
    "region_world": "world averages stand in for the region",
    "intensity_hour": "the grid zone's value of that very hour, instead of the year's average",
    "intensity_country": "no value of the grid zone: the country's average",
    "intensity_world": "no value of the zone or the country: the world's average",
    "pue_fleet": "no value of the region: the operator's fleet average",
    "pue_world": "operator not known: a middle value of large data centres",
    "water_onsite_fleet": "no value of the region: the operator's fleet average",
    "water_onsite_withdrawal": "the operator publishes withdrawal: not added to consumption",
    "water_onsite_unstated": "the operator states no basis: not added to consumption",
    "water_onsite_unknown": "no on-site water is published",
    "water_offsite_world": "no value of the subregion or the country: the world's average",
}
"""Code to meaning."""
