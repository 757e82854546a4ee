"""MeshFlow, the package of that name on PyPI: its runs metered, budgeted and stopped.

    marlin.instrument("meshflow")
    with marlin.run(2.0):                            # or by the policy's own carbon_budget_g
        result = await mesh.run("Write a report")    # raises CarbonBudgetExceededError

Replaced are entries, which become runs; steps, which become agents; and model calls, which are
asked for and counted. What is replaced is listed here in full, with the signatures it was tested
with: a test compares them with the installed package.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Coroutine, Iterator
from contextvars import copy_context
from types import ModuleType
from typing import Any

from marlin.errors import ConfigurationError
from marlin.runtime.integrations.in_context import in_context
from marlin.runtime.integrations.meshflow_calls import metered_call, metered_stream
from marlin.runtime.integrations.meshflow_runs import metered_entry, metered_step
from marlin.runtime.integrations.replacement import Replacement

__all__ = [
    "ENTRIES",
    "FROM_PLAIN_CODE",
    "MODEL_CALLS",
    "STEPS",
    "STREAMS",
    "TESTED_VERSION",
    "TOKEN_STREAMS",
    "instrument",
    "owner_of",
    "uninstrument",
]

TESTED_VERSION = "1.14"

ENTRIES = {
    "meshflow.core.mesh:Mesh.stream": "(self, task, policy=None, context=None)",
    "meshflow.core.workflow:WorkflowDefinition.run": (
        "(self, task, runtime, context=None, event_bus=None)"
    ),
    "meshflow.core.workflow:WorkflowDefinition.stream": "(self, task, runtime, *, context=None)",
    "meshflow.core.workflow:WorkflowDefinition.resume": (
        "(self, run_id, decision, ledger, runtime)"
    ),
    "meshflow.core.workflow:Workflow._run_async": "(self, task, _resuming=False)",
    "meshflow.core.workflow:Workflow._stream_async": "(self, task)",
    "meshflow.core.workflow:Workflow._run_until_async": "(self, task, condition, max_steps)",
    "meshflow.agents.team:Team.run": "(self, task, context=None)",
    "meshflow.agents.team:Team._stream_impl": "(self, task, context=None)",
    "meshflow.agents.crew:Crew.kickoff": "(self, inputs=None)",
    "meshflow.agents.crew:Crew._kickoff_stream_impl": "(self, inputs)",
    "meshflow.agents.builder:Agent.run": "(self, task, context=None)",
}
"""Where work begins. `Mesh.run` leads through `Mesh.stream`; `Mesh.run_workflow`, `govern(…)` and
`Workflow.run` lead through `WorkflowDefinition.run` or `Team.run`."""

STEPS = {
    "meshflow.core.runtime:StepRuntime.run": "(self, node, node_input, context)",
    "meshflow.core.executor:GovernedStepExecutor.execute": "(self, agent, task, context)",
}
"""What carries out one node or agent, and swallows what it raises."""

MODEL_CALLS = {
    "meshflow.agents.base:BaseAgent.think": ("(self, messages, system=None, model_override=None)"),
    "meshflow.agents.base:BaseAgent.think_with_tools": (
        "(self, messages, tool_schemas, tool_fns, system=None, model_override=None)"
    ),
    "meshflow.agents.builder:_BuiltAgent._think_extended": (
        "(self, messages, model_override=None)"
    ),
}
"""What calls a model and gives `(content, tokens, cost_usd, …)`."""

STREAMS = {"meshflow.agents.builder:Agent.stream": "(self, task, context=None)"}
"""What streams a model's answer, and is an entry as well."""

TOKEN_STREAMS = {"meshflow.core.workflow:_stream_agent_tokens": "(agent, task, context)"}
"""What streams a model's answer within `WorkflowDefinition.stream`."""

FROM_PLAIN_CODE = {"meshflow.integrations._utils:run_sync": "(coro)"}
"""How `Workflow.run` reaches an event loop: in a thread that does not inherit the run."""


_replacements: list[Replacement] = []


def instrument() -> None:
    """Replace them all. Raises `ConfigurationError` where one is not there, and replaces none."""
    if not _replacements:
        _replacements.extend(list(_all()))
    for one in _replacements:
        one.install()


def uninstrument() -> None:
    """Put the originals back. Runs under way are metered until they end."""
    for one in reversed(_replacements):
        one.remove()


def _all() -> Iterator[Replacement]:
    for points, make in (
        (MODEL_CALLS, metered_call),
        (STEPS, metered_step),
        (ENTRIES, metered_entry),
        (STREAMS, _metered_stream_entry),
        (TOKEN_STREAMS, metered_stream),
        (FROM_PLAIN_CODE, _carrying_the_context),
    ):
        for point in points:
            owner, name = owner_of(point)
            yield Replacement(owner, name, make)


def owner_of(point: str) -> tuple[type | ModuleType, str]:
    """The class or module that has a replaced point, and the point's name in it."""
    module_name, _, path = point.partition(":")
    module = importlib.import_module(module_name)
    class_name, _, name = path.rpartition(".")
    if not class_name:
        return module, name
    owner = getattr(module, class_name, None)
    if not isinstance(owner, type):
        raise ConfigurationError(
            f"{module_name} has no {class_name}; this version of MeshFlow cannot be instrumented, "
            f"{TESTED_VERSION} can; nothing was changed"
        )
    return owner, name


def _metered_stream_entry(
    original: Callable[..., Any], replacement: Replacement
) -> Callable[..., Any]:
    return metered_entry(metered_stream(original, replacement), replacement)


def _carrying_the_context(
    original: Callable[..., Any], replacement: Replacement
) -> Callable[..., Any]:
    @functools.wraps(original)
    def run_sync(coro: Coroutine[Any, Any, Any]) -> Any:
        return original(in_context(copy_context(), coro) if replacement.active else coro)

    return run_sync
