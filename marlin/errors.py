"""Every error Marlin raises, drawn once.

    MarlinError
    ├── ConfigurationError          a setting is missing or contradicts another; nothing was started
    ├── BrokerError                 Kafka cannot be reached or refuses; the caller may retry
    │   └── EmbeddedBrokerError     the embedded broker could not be started or died
    ├── EstimationError             a factor file is invalid (an unknown model is never an error)
    ├── DataError                   input that can never become valid (a bad file, a bad record)
    ├── StateError                  recovered state contradicts the log; the worker stops
    ├── SinkError                   DuckDB refused; the sink stops and resumes from its positions
    │   ├── SchemaTooNewError       the file was written by a newer Marlin
    │   └── QueryError              a query was refused or failed; nothing was changed
    └── BudgetError
        └── CarbonBudgetExceededError   a run spent more than its budget; its agents must stop

Errors of other libraries are mapped to these once, at the edge where they appear, with
``raise … from exc``.
"""

from __future__ import annotations

__all__ = [
    "BrokerError",
    "BudgetError",
    "CarbonBudgetExceededError",
    "ConfigurationError",
    "DataError",
    "EmbeddedBrokerError",
    "EstimationError",
    "MarlinError",
    "QueryError",
    "SchemaTooNewError",
    "SinkError",
    "StateError",
]


class MarlinError(Exception):
    """Base of every error that Marlin raises on purpose."""


class ConfigurationError(MarlinError):
    """A setting is missing or contradicts another. Nothing was started."""


class BrokerError(MarlinError):
    """Kafka cannot be reached, or refused a request. The caller may retry."""


class EmbeddedBrokerError(BrokerError):
    """The embedded broker could not be started, or died."""


class EstimationError(MarlinError):
    """A factor file is invalid. Unknown models and regions never raise: they get coded results."""


class DataError(MarlinError):
    """Input that can never become valid. It is refused (file) or dead-lettered (record)."""


class StateError(MarlinError):
    """Recovered state contradicts the log. The worker stops; nothing is committed."""


class SinkError(MarlinError):
    """The database refused. The sink stops and resumes from the positions stored in it."""


class SchemaTooNewError(SinkError):
    """The database was written by a newer Marlin. Nothing was changed; upgrade Marlin."""


class QueryError(SinkError):
    """A query was refused or failed. Nothing was changed."""


class BudgetError(MarlinError):
    """Base of what a budget does to a run."""


class CarbonBudgetExceededError(BudgetError):
    """A run spent more carbon than its budget. Its remaining agents must not run.

    Attributes:
        run_id: the run.
        budget_g: the budget [gCO2e].
        spent_g: what was spent when the breach was seen [gCO2e], on the policy's bound.
        agent_id: the agent whose call crossed the budget, if known.
        command_id: the abort command that stopped the run, or None when the local check did.
        reason: why the run was stopped, `carbon_budget_exceeded` unless an operator did.
    """

    def __init__(
        self,
        *,
        run_id: str,
        budget_g: float | None,
        spent_g: float,
        agent_id: str | None = None,
        command_id: str | None = None,
        reason: str = "carbon_budget_exceeded",
    ) -> None:
        self.run_id = run_id
        self.budget_g = budget_g
        self.spent_g = spent_g
        self.agent_id = agent_id
        self.command_id = command_id
        self.reason = reason
        budget = "no budget" if budget_g is None else f"a budget of {budget_g:g} gCO2e"
        by = f" (agent {agent_id})" if agent_id else ""
        super().__init__(
            f"run {run_id} stopped{by}: {reason}: {spent_g:.6g} gCO2e spent of {budget}; "
            "its remaining agents are blocked"
        )
