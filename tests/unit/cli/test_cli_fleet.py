"""The demo's fleet: what it is given to do."""

from __future__ import annotations

from marlin.cli.fleet import MODELS, RUNS, WORKFLOWS, assignments


def test_the_fleet_does_the_same_every_time() -> None:
    assert list(assignments()) == list(assignments())
    assert len(list(assignments())) == RUNS


def test_every_workflow_runs_on_every_model() -> None:
    pairs = {(assignment.workflow, assignment.model) for assignment in assignments()}

    assert pairs == {(workflow, model) for workflow in WORKFLOWS for model in MODELS}


def test_half_of_the_budgets_can_only_be_enforced_through_kafka() -> None:
    remote = [one for one in assignments() if not one.local_enforcement]

    assert len(remote) == RUNS // 2
    assert any(one.carbon_budget_g is not None for one in remote)
    assert any(one.carbon_budget_g is None for one in assignments())
