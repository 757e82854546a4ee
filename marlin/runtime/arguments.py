"""What `run()` and `MeshFlow` are told, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from marlin.errors import ConfigurationError
from marlin.schemas import Policy

if TYPE_CHECKING:
    from marlin.settings import Settings

__all__ = ["checked_policy", "environment_settings", "policy_of_budget"]


def environment_settings() -> Settings:
    """The settings of the environment; raises `ConfigurationError` where one is invalid."""
    # Imported here: pydantic-settings takes as long to import as all the rest.
    from marlin.settings import Settings

    try:
        return Settings()
    except ValidationError as exc:
        raise ConfigurationError(
            f"a MARLIN_ setting is invalid, nothing was started: {exc}"
        ) from exc


def policy_of_budget(carbon_budget_g: float | None, *, enforce: bool = True) -> Policy:
    """A policy of just a budget [gCO2e]; raises `ConfigurationError` for an impossible one."""
    try:
        return Policy(enable_environmental=enforce, carbon_budget_g=carbon_budget_g)
    except ValidationError as exc:
        raise ConfigurationError(
            f"carbon_budget_g must be a finite number of grams, 0 or more: {exc}"
        ) from exc


def checked_policy(policy: Policy) -> Policy:
    """`policy`, if a runtime can carry it out; raises `ConfigurationError` otherwise."""
    if policy.action == "pause":
        raise ConfigurationError(
            'a runtime cannot pause a run: use a policy with action "abort" or "warn"'
        )
    return policy
