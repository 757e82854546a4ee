"""Marlin: real-time carbon metering and budgets for AI agents."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marlin.connection import Connection, connect
    from marlin.errors import (
        BrokerError,
        BudgetError,
        CarbonBudgetExceededError,
        ConfigurationError,
        DataError,
        EstimationError,
        MarlinError,
    )
    from marlin.estimation import Estimate, Estimator, estimate
    from marlin.reports import ESGReporter
    from marlin.routing import CarbonAwareRouter, RegionChoice, select_model
    from marlin.runtime import (
        AgentContext,
        AgentState,
        AgentStatus,
        BudgetWarning,
        CarbonEvent,
        LiveRun,
        MeshFlow,
        MeteredRun,
        MockModelClient,
        ModelClient,
        ModelReply,
        Policy,
        RunResult,
        RunStatus,
        TokenUsage,
    )
    from marlin.runtime.integrations import instrument, uninstrument
    from marlin.runtime.meter import current_run, run
    from marlin.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "AgentContext",
    "AgentState",
    "AgentStatus",
    "BrokerError",
    "BudgetError",
    "BudgetWarning",
    "CarbonAwareRouter",
    "CarbonBudgetExceededError",
    "CarbonEvent",
    "ConfigurationError",
    "Connection",
    "DataError",
    "ESGReporter",
    "Estimate",
    "EstimationError",
    "Estimator",
    "LiveRun",
    "MarlinError",
    "MeshFlow",
    "MeteredRun",
    "MockModelClient",
    "ModelClient",
    "ModelReply",
    "Policy",
    "RegionChoice",
    "RunResult",
    "RunStatus",
    "Settings",
    "TokenUsage",
    "__version__",
    "connect",
    "current_run",
    "estimate",
    "instrument",
    "run",
    "select_model",
    "uninstrument",
]

_MODULES = (
    *("marlin.errors", "marlin.estimation", "marlin.runtime", "marlin.runtime.meter"),
    *("marlin.runtime.integrations", "marlin.routing", "marlin.settings"),
    "marlin.reports",
    "marlin.connection",
)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import marlin` costs nothing."""
    if name in __all__:
        for module_name in _MODULES:
            module = import_module(module_name)
            if name in getattr(module, "__all__"):  # noqa: B009  pyright: modules have no such type
                value = globals()[name] = getattr(module, name)
                return value
    raise AttributeError(f"module 'marlin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
