"""The SDK inside agent runtimes: workflows, their meter, their budget.

Imports neither Faust nor DuckDB nor Arrow, and Kafka's client only once a run finds a cluster.
"""

from __future__ import annotations

from marlin.runtime.agent import AgentFunction
from marlin.runtime.carbon_event import CarbonEvent
from marlin.runtime.client import ModelClient, ModelReply, TokenUsage
from marlin.runtime.context import AgentContext
from marlin.runtime.live import LiveRun
from marlin.runtime.mesh import MeshFlow
from marlin.runtime.meter import MeteredRun
from marlin.runtime.mock import MockModelClient
from marlin.runtime.result import AgentState, AgentStatus, RunResult, RunStatus
from marlin.runtime.stop import BudgetWarning
from marlin.schemas import Policy

__all__ = [
    "AgentContext",
    "AgentFunction",
    "AgentState",
    "AgentStatus",
    "BudgetWarning",
    "CarbonEvent",
    "LiveRun",
    "MeshFlow",
    "MeteredRun",
    "MockModelClient",
    "ModelClient",
    "ModelReply",
    "Policy",
    "RunResult",
    "RunStatus",
    "TokenUsage",
]
