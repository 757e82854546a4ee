"""Every error Marlin raises, drawn once.

    MarlinError
    ├── ConfigurationError          a setting is missing or contradicts another; nothing was started
    ├── BrokerError                 Kafka cannot be reached or refuses; the caller may retry
    │   └── EmbeddedBrokerError     the embedded broker could not be started or died
    ├── EstimationError             a factor file is invalid (an unknown model is never an error)
    ├── DataError                   input that can never become valid (a bad file, a bad record)
    ├── StateError                  recovered state contradicts the log; the worker stops
    ├── GridError                   a source of grid intensity failed; yearly averages stand in
    │   ├── GridAuthError           the token was refused; the source is left alone for a day
    │   ├── GridRateLimitError      too many requests; `retry_after_s` says when to ask again
    │   ├── GridUnavailableError    not reachable, too slow or broken on its side; asked again later
    │   ├── GridZoneError           the source, or the plan paid for, does not have the zone
    │   └── GridDataError           the answer is not what the source documents; it is not used
    ├── RoutingError                a region is unknown, or no candidate fits; nothing was chosen
    ├── SinkError                   DuckDB refused; the sink stops and resumes from its positions
    │   ├── SchemaTooNewError       the file was written by a newer Marlin
    │   ├── SinkConflictError       another sink took in the same partition; bind again
    │   └── QueryError              a query was refused or failed; nothing was changed
    └── BudgetError
        └── CarbonBudgetExceededError   a run is over its budget, or its next call would be

Errors of other libraries are mapped to these once, at the edge where they appear, with
``raise … from exc``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from marlin.estimation import Range

__all__ = [
    "BrokerError",
    "BudgetError",
    "CarbonBudgetExceededError",
    "ConfigurationError",
    "DataError",
    "EmbeddedBrokerError",
    "EstimationError",
    "GridAuthError",
    "GridDataError",
    "GridError",
    "GridRateLimitError",
    "GridUnavailableError",
    "GridZoneError",
    "MarlinError",
    "QueryError",
    "RoutingError",
    "SchemaTooNewError",
    "SinkConflictError",
    "SinkError",
    "StateError",
]


_Exceeded = TypeVar("_Exceeded", bound="CarbonBudgetExceededError")


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


class GridError(MarlinError):
    """A source of grid intensity failed. Estimates go on with yearly averages.

    Attributes:
        provider: the source.
        retry_after_s: when it may be asked again [s], as it said itself; None where it did not.
    """

    def __init__(
        self, message: str, *, provider: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.retry_after_s = retry_after_s


class GridAuthError(GridError):
    """The source refused the token. It is left alone for a day, or until a restart."""


class GridRateLimitError(GridError):
    """The source was asked too often. `retry_after_s` says when it may be asked again."""


class GridUnavailableError(GridError):
    """The source cannot be reached, is too slow, or failed on its side. It is asked again later."""


class GridZoneError(GridError):
    """The source, or the plan that the token is for, does not have the zone."""


class GridDataError(GridError):
    """The answer of the source is not what it documents. Nothing of it is used."""


class RoutingError(MarlinError):
    """A region or strategy is unknown, or no candidate fits. Nothing was chosen."""


class SinkError(MarlinError):
    """The database refused. The sink stops and resumes from the positions stored in it."""


class SchemaTooNewError(SinkError):
    """The database was written by a newer Marlin. Nothing was changed; upgrade Marlin."""


class SinkConflictError(SinkError):
    """Another sink moved the position of a partition of this batch. Nothing of it was stored.

    `bind` again for fresh positions, and read from there those partitions that are still one's own.
    """


class QueryError(SinkError):
    """A query was refused or failed. Nothing was changed."""


class BudgetError(MarlinError):
    """Base of what a budget does to a run."""


class CarbonBudgetExceededError(BudgetError):
    """A run spent more carbon than its budget, or its next call would not fit.

    After a breach or an abort the run's remaining agents must not run. Where only a forecast
    refused a call (`reason` is `carbon_budget_forecast`) the run is not over its budget: a smaller
    call may still fit. Can be pickled.

    Attributes:
        run_id: the run.
        budget_g: the budget [gCO2e].
        spent_g: what was spent when the breach was seen [gCO2e], on the policy's bound.
        spent: the same with its range [gCO2e], whatever the bound; None where unknown.
        step: calls that the run had made [count].
        agent_id: the agent whose call crossed the budget, or was refused, if known.
        command_id: the abort command that stopped the run, or None when the local check did.
        reason: why, `carbon_budget_exceeded` unless an operator or a forecast stopped it.
        forecast_g: what the refused call would have taken [gCO2e]; None unless it was refused.
        partial: what agents had produced so far, by agent; may be empty.
    """

    def __init__(
        self,
        *,
        run_id: str,
        budget_g: float | None,
        spent_g: float,
        spent: Range | None = None,
        step: int = 0,
        agent_id: str | None = None,
        command_id: str | None = None,
        reason: str = "carbon_budget_exceeded",
        forecast_g: float | None = None,
        partial: Mapping[str, object] | None = None,
    ) -> None:
        self.run_id = run_id
        self.budget_g = budget_g
        self.spent_g = spent_g
        self.spent = spent
        self.step = step
        self.agent_id = agent_id
        self.command_id = command_id
        self.reason = reason
        self.forecast_g = forecast_g
        self.partial: Mapping[str, object] = dict(partial or {})
        budget = "no budget" if budget_g is None else f"a budget of {budget_g:g} gCO2e"
        by = f" (agent {agent_id})" if agent_id else ""
        spending = f"{spent_g:.6g} gCO2e spent of {budget}"
        if forecast_g is None:
            text = f"stopped{by}: {reason}: {spending}; its remaining agents are blocked"
        else:
            text = (
                f"refused a call{by}: {reason}: about {forecast_g:.6g} gCO2e more cannot fit, "
                f"{spending}, calls under way not counted"
            )
        super().__init__(f"run {run_id} {text}")

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[type[Self], dict[str, Any]]]:
        # Exceptions are rebuilt from their positional arguments; this one has names only.
        return _made_again, (type(self), dict(self.__dict__))


def _made_again(kind: type[_Exceeded], fields: dict[str, Any]) -> _Exceeded:
    notes = fields.pop("__notes__", ())
    error = kind(**fields)
    for note in notes:
        error.add_note(note)
    return error
