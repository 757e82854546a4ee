from __future__ import annotations

import pickle

import pytest

from marlin.errors import CarbonBudgetExceededError
from marlin.estimation import Range


def breach(**changes: object) -> CarbonBudgetExceededError:
    fields: dict[str, object] = {
        "run_id": "run-1",
        "budget_g": 1.0,
        "spent_g": 1.25,
        "spent": Range(1.0, 1.25, 2.0),
        "step": 7,
        "agent_id": "writer",
        "command_id": "c",
        "partial": {"writer": "half"},
    }
    return CarbonBudgetExceededError(**(fields | changes))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_it_says_who_what_and_what_happens_next() -> None:
    assert str(breach()) == (
        "run run-1 stopped (agent writer): carbon_budget_exceeded: 1.25 gCO2e spent of a budget of "
        "1 gCO2e; its remaining agents are blocked"
    )


def test_a_refused_call_says_what_it_would_have_taken() -> None:
    error = breach(reason="carbon_budget_forecast", forecast_g=0.5, spent_g=0.75)

    assert str(error) == (
        "run run-1 refused a call (agent writer): carbon_budget_forecast: about 0.5 gCO2e more "
        "cannot fit, 0.75 gCO2e spent of a budget of 1 gCO2e, calls under way not counted"
    )


def test_without_a_budget_an_operator_stopped_it() -> None:
    error = breach(budget_g=None, agent_id=None, reason="operator: enough")

    assert "run run-1 stopped: operator: enough: 1.25 gCO2e spent of no budget" in str(error)


class _OfAFramework(CarbonBudgetExceededError):
    pass


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_it_survives_the_way_to_another_process(protocol: int) -> None:
    error = breach(forecast_g=0.5)
    error.add_note("seen in step 7")

    back = pickle.loads(pickle.dumps(error, protocol))

    assert isinstance(back, CarbonBudgetExceededError)
    assert (str(back), vars(back)) == (str(error), vars(error))
    assert (back.spent, back.partial, back.step) == (error.spent, {"writer": "half"}, 7)


def test_a_subclass_stays_one() -> None:
    error = _OfAFramework(run_id="run-1", budget_g=1.0, spent_g=2.0)

    assert type(pickle.loads(pickle.dumps(error))) is _OfAFramework


def test_what_agents_go_on_to_do_does_not_change_the_error() -> None:
    outputs: dict[str, object] = {"a": 1}
    error = breach(partial=outputs)
    outputs["b"] = 2

    assert error.partial == {"a": 1}
