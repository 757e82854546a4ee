"""Asking before a call: what is refused, reserved, settled and given back; alone and in a crowd."""

from __future__ import annotations

import asyncio
import threading

import pytest
from crowd import CALLS, ROOM_CALLS, Crowd, from_tasks, from_threads, outputs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from runtime_doubles import REGION, Sink, call_g, new_run

from marlin.errors import CarbonBudgetExceededError, DataError
from marlin.estimation import default_estimator
from marlin.runtime import TokenUsage
from marlin.runtime.call import Call
from marlin.runtime.forecast import PRIOR_OUTPUT_TOKENS
from marlin.runtime.run import Run
from marlin.schemas import Policy, Usage

MODEL = "large-70b"
FIRST_CALL_G = call_g(MODEL, 1000, PRIOR_OUTPUT_TOKENS)
"""What the forecast says of a first call with a prompt of 1000 tokens."""


def start(run: Run, *, agent_id: str = "writer", max_output_tokens: int | None = None) -> Call:
    return run.start_call(
        agent_id=agent_id,
        model=MODEL,
        provider="",
        region=REGION,
        prompt_tokens=1000,
        max_output_tokens=max_output_tokens,
    )


def run_of(budget_g: float | None, sink: Sink | None = None) -> Run:
    return new_run(budget_g, sink=sink, preflight=True)


def test_a_call_reserves_its_forecast_and_settles_for_what_it_took() -> None:
    sink = Sink()
    run = run_of(1.0, sink)

    call = start(run)
    assert call.forecast_g == run.reserved_g == FIRST_CALL_G
    assert (run.spent_g, sink.events) == (0.0, [])
    event = call.finish(TokenUsage(1000, 200))

    assert event is not None
    assert event.carbon_g == run.spent_g == call_g(MODEL, 1000, 200)
    assert run.reserved_g == 0.0
    (usage,) = sink.events
    assert isinstance(usage, Usage)
    assert (usage.agent_id, usage.model, usage.region) == ("writer", MODEL, REGION)
    assert usage.latency_s is not None


def test_a_released_call_gives_back_and_sends_nothing() -> None:
    sink = Sink()
    run = run_of(FIRST_CALL_G, sink)

    start(run).release()

    assert (run.reserved_g, run.totals.calls, sink.events) == (0.0, 0, [])
    assert start(run).forecast_g == FIRST_CALL_G


def test_a_call_is_settled_once_whatever_comes_after() -> None:
    run = run_of(10.0)
    first, second = start(run), start(run)

    assert first.finish(TokenUsage(1, 1)) is not None
    assert first.finish(TokenUsage(1, 1)) is None
    first.release()
    second.release()
    second.release()
    assert second.finish(TokenUsage(1, 1)) is None

    assert run.totals.calls == 1
    assert run.reserved_g == 0.0


def test_impossible_counts_are_refused_and_the_reservation_goes_back() -> None:
    run = run_of(10.0)
    call = start(run)

    with pytest.raises(DataError, match="not counted"):
        call.finish(TokenUsage(-1, 0))

    assert (run.reserved_g, run.totals.calls) == (0.0, 0)


def test_the_model_that_answered_counts() -> None:
    event = start(run_of(None)).finish(TokenUsage(1000, 200), model="small-7b")

    assert event is not None
    assert event.model == "small-7b"
    assert event.carbon_g == call_g("small-7b", 1000, 200)


def test_what_cannot_fit_is_refused_and_the_run_goes_on() -> None:
    run = run_of(FIRST_CALL_G * 0.999)

    with pytest.raises(CarbonBudgetExceededError) as raised:
        start(run)

    error = raised.value
    assert (error.reason, error.agent_id, error.step) == ("carbon_budget_forecast", "writer", 0)
    assert (error.forecast_g, error.spent_g) == (FIRST_CALL_G, 0.0)
    assert error.budget_g == FIRST_CALL_G * 0.999
    assert (run.stop, run.reserved_g) == (None, 0.0)
    run.check()
    assert start(run, max_output_tokens=100).forecast_g == call_g(MODEL, 1000, 100)


def test_what_fits_exactly_is_made() -> None:
    assert start(run_of(FIRST_CALL_G)).forecast_g == FIRST_CALL_G


def test_calls_under_way_count_against_the_next() -> None:
    run = run_of(2.5 * FIRST_CALL_G)
    first, _ = start(run), start(run)
    with pytest.raises(CarbonBudgetExceededError):
        start(run)

    first.release()

    start(run)


def test_the_error_says_what_was_spent_with_its_range_and_what_was_done() -> None:
    run = run_of(FIRST_CALL_G * 1.5)
    run.record(TokenUsage(1000, 400), agent_id="a", model=MODEL, provider="", region=REGION)
    run.keep("a", "the first half")

    with pytest.raises(CarbonBudgetExceededError) as raised:
        start(run)

    error = raised.value
    assert error.spent == run.totals.carbon_range_g
    assert error.spent is not None
    assert error.spent.low < error.spent.central == error.spent_g < error.spent.high
    assert (error.step, error.partial) == (1, {"a": "the first half"})


def test_a_stopped_run_starts_nothing() -> None:
    run = run_of(FIRST_CALL_G)
    run.record(TokenUsage(1000, 5000), agent_id="a", model=MODEL, provider="", region=REGION)

    with pytest.raises(CarbonBudgetExceededError) as raised:
        start(run, agent_id="b")

    assert (raised.value.reason, raised.value.agent_id) == ("carbon_budget_exceeded", "a")
    assert raised.value.forecast_g is None


@pytest.mark.parametrize(("bound", "end"), [("low", "carbon_low"), ("high", "carbon_high")])
def test_the_forecast_is_on_the_policys_bound(bound: str, end: str) -> None:
    policy = Policy.model_validate({"carbon_budget_g": 1000.0, "bound": bound})
    by = default_estimator().coefficients(MODEL, "", REGION)

    call = start(new_run(policy=policy, preflight=True))

    assert call.forecast_g == FIRST_CALL_G * getattr(by, end)


@pytest.mark.parametrize(
    "run",
    [
        new_run(0.0, preflight=False),
        new_run(0.0, preflight=True, local_enforcement=False),
        new_run(policy=Policy(carbon_budget_g=0.0, action="warn"), preflight=True),
        new_run(policy=Policy(carbon_budget_g=0.0, enable_environmental=False), preflight=True),
        new_run(None, preflight=True),
    ],
    ids=["off", "left to the pipeline", "warn", "not enforced", "no budget"],
)
def test_a_run_that_does_not_enforce_ahead_refuses_nothing(run: Run) -> None:
    assert start(run).finish(TokenUsage(1000, 200)) is not None


def test_giving_up_after_a_refusal_stops_the_run_for_that_reason() -> None:
    run = run_of(0.0)
    with pytest.raises(CarbonBudgetExceededError) as raised:
        start(run)

    run.give_up(raised.value)

    assert run.stop is not None
    assert (run.stop.reason, run.stop.agent_id) == ("carbon_budget_forecast", "writer")
    assert run.stop.forecast_g == FIRST_CALL_G
    assert not run.awaits_command
    with pytest.raises(CarbonBudgetExceededError, match="refused a call"):
        run.check()


sizes = st.integers(0, 3000)
steps = st.lists(st.tuples(st.sampled_from(["start", "finish", "release"]), sizes), max_size=60)


@hypothesis_settings(max_examples=100, deadline=None)
@given(steps, st.floats(0, 3))
def test_spent_and_reserved_stay_within_the_budget_and_the_forecast_errors(
    steps: list[tuple[str, int]], budget_g: float
) -> None:
    run = run_of(budget_g)
    under_way: list[Call] = []
    errors_g = 0.0
    for step, output_tokens in steps:
        if step == "start":
            try:
                under_way.append(start(run))
            except CarbonBudgetExceededError:
                continue
        elif under_way and step == "finish":
            call = under_way.pop(0)
            event = call.finish(TokenUsage(1000, output_tokens))
            assert event is not None
            errors_g += max(0.0, event.carbon_g - call.forecast_g)
        elif under_way:
            under_way.pop(0).release()

        assert run.spent_g + run.reserved_g <= (budget_g + errors_g) * (1 + 1e-9)
        assert run.reserved_g == pytest.approx(sum(call.forecast_g for call in under_way))


def within_one_error(crowd: Crowd) -> None:
    assert crowd.made + crowd.refused == CALLS
    assert crowd.made >= ROOM_CALLS // 2
    assert crowd.overshoot_g <= crowd.largest_error_g


@pytest.mark.parametrize("seed", range(3))
def test_200_threads_near_the_budget_overshoot_by_less_than_one_calls_error(seed: int) -> None:
    within_one_error(from_threads(True, seed))


@pytest.mark.parametrize("seed", range(5))
async def test_200_tasks_near_the_budget_overshoot_by_less_than_one_calls_error(seed: int) -> None:
    within_one_error(await from_tasks(True, seed))


async def test_one_call_of_a_crowd_may_be_far_longer_than_expected() -> None:
    lengths = outputs(7)
    lengths[0] = 20_000

    crowd = await from_tasks(True, 7, lengths)

    assert crowd.overshoot_g > 0.0
    within_one_error(crowd)


async def test_without_pre_flight_the_whole_crowd_slips_under() -> None:
    """All ask before any has ended: the plain check lets every one of them through."""
    plain = [from_threads(False, 0), await from_tasks(False, 0)]

    for crowd in plain:
        assert (crowd.made, crowd.refused) == (CALLS, 0)
        assert crowd.overshoot_g > 100 * crowd.largest_error_g
        assert crowd.overshoot_g > 2 * crowd.budget_g


def test_settling_from_many_threads_counts_each_call_once() -> None:
    run = run_of(None)
    calls = [start(run) for _ in range(50)]
    counted: list[object] = []

    def work() -> None:
        counted.extend(filter(None, [call.finish(TokenUsage(10, 10)) for call in calls]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(counted) == run.totals.calls == 50
    assert run.reserved_g == 0.0


async def test_a_cancelled_waiter_gives_back() -> None:
    run = run_of(FIRST_CALL_G)

    async def wait_for_ever() -> None:
        call = start(run)
        try:
            await asyncio.Event().wait()
        finally:
            call.release()

    task = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)
    assert run.reserved_g == FIRST_CALL_G
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert run.reserved_g == 0.0
