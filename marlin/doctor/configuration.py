"""Settings and factors: what this process would work with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

from pydantic import BaseModel

from marlin.doctor.check import Check
from marlin.estimation import default_estimator
from marlin.settings import Settings

__all__ = ["changed_settings", "check_configuration", "check_factors"]

_FACTORS_AGE_DAYS = 365
"""Grids and models change within a year: older factors are worth a look [days]."""


def changed_settings(settings: Settings) -> list[str]:
    """`VARIABLE=value` of every setting that is not as it is by default; secrets are hidden."""
    return sorted(_changed(settings, Settings.model_construct(), "MARLIN_"))


def _changed(model: BaseModel, default: BaseModel, prefix: str) -> Iterator[str]:
    for name in type(model).model_fields:
        value, usual = getattr(model, name), getattr(default, name)
        if isinstance(value, BaseModel):
            yield from _changed(value, usual, f"{prefix}{name.upper()}__")
        elif value != usual:
            # A SecretStr shows asterisks.
            yield f"{prefix}{name.upper()}={value}"


def check_configuration(settings: Settings) -> Check:
    """Which settings are not the default."""
    changed = changed_settings(settings)
    text = f"{len(changed)} of the settings are not the default" if changed else "all by default"
    return Check("configuration", "ok", text, details=tuple(changed))


def check_factors(now: datetime) -> Check:
    """Which factor set estimates are made with, and how old it is."""
    version = default_estimator().factor_set.version
    days = (now.date() - date.fromisoformat(version[:10])).days
    text = f"factor set {version}, {max(0, days)} days old"
    if days > _FACTORS_AGE_DAYS:
        return Check("factors", "warn", text, "upgrade Marlin: grids and models have changed since")
    return Check("factors", "ok", text)
