"""What importing Marlin costs, and its one public list. Each in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import marlin

HEAVY = ("aiokafka", "duckdb", "faust", "pyarrow", "rich", "typer", "starlette")

PUBLIC = [
    *("AgentContext", "AgentState", "AgentStatus", "BrokerError", "BudgetError"),
    *("BudgetWarning", "CarbonBudgetExceededError", "CarbonEvent", "ConfigurationError"),
    *("CarbonAwareRouter", "Connection", "ESGReporter", "RegionChoice", "connect", "select_model"),
    *("DataError", "Estimate", "EstimationError", "Estimator", "LiveRun", "MarlinError"),
    *("MeshFlow", "MeteredRun", "MockModelClient", "ModelClient", "ModelReply", "Policy"),
    *("RunResult", "RunStatus", "Settings", "TokenUsage", "__version__", "current_run", "estimate"),
    *("instrument", "run", "uninstrument"),
]


def in_fresh_python(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import json, sys\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_marlin_imports_nothing_else() -> None:
    loaded = in_fresh_python(
        "before = set(sys.modules)\nimport marlin\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )

    assert not {"pydantic", *HEAVY} & set(loaded)


@pytest.mark.parametrize("name", ["MeshFlow", "run", "instrument", "TokenUsage"])
def test_using_a_name_imports_no_more_than_it_needs(name: str) -> None:
    """pydantic-settings alone takes as long to import as everything else together."""
    loaded = in_fresh_python(
        f"from marlin import {name}\nprint(json.dumps(sorted(sys.modules)))",
    )

    unwanted = {"pydantic_settings", "opentelemetry", "openai", "anthropic", "langchain_core"}
    assert {m.partition(".")[0] for m in loaded} & {*HEAVY, *unwanted} == set()
    # Loaded by pydantic when the first validator is built.
    assert "pydantic.plugin._loader" not in loaded


def test_a_local_run_needs_none_of_the_pipelines_packages() -> None:
    loaded = in_fresh_python(
        "from marlin import MeshFlow\n"
        "mesh = MeshFlow(mock=True, default_model='small-7b')\n"
        "mesh.add_agent('a', lambda ctx: ctx.call_model_sync('x').text)\n"
        "assert mesh.run_sync().total_carbon_g > 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )

    assert [m for m in loaded if m.partition(".")[0] in HEAVY] == []
    assert [m for m in loaded if m.startswith(("marlin.streams", "marlin.sinks"))] == []


def test_the_runtimes_kafka_link_needs_only_the_client() -> None:
    loaded = in_fresh_python("import marlin.runtime.link\nprint(json.dumps(sorted(sys.modules)))")

    assert "aiokafka" in loaded
    assert [m for m in loaded if m.partition(".")[0] in set(HEAVY) - {"aiokafka"}] == []


def test_the_public_list_is_this_one() -> None:
    assert sorted(marlin.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(marlin))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(marlin, name) is not None


def test_the_public_policy_is_the_contracts() -> None:
    from marlin.schemas import Policy

    assert marlin.Policy is Policy
    assert marlin.Policy(enable_environmental=True, carbon_budget_g=500.0).carbon_budget_g == 500.0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'marlin' has no attribute 'Nothing'"):
        marlin.Nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
