"""What a batch does to a partition: exact totals, budgets, outputs, replays, recovery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest
from events import NOW, Record, raw, record, started, usage
from hypothesis import given
from hypothesis import strategies as st

from marlin.estimation import default_estimator
from marlin.schemas import (
    CARBON_RECORDS,
    Carbon,
    Command,
    DeadLetter,
    Lifecycle,
    RunFinished,
    command_id,
)
from marlin.streams.partition import POSITION_KEY, Outcome, Partition
from marlin.totals import MAX_AGENTS, OTHER_AGENTS, footprint

CALL_G = footprint(
    usage(), default_estimator().coefficients("gpt-4o", "openai", "us-east-1", NOW)
).carbon_g
"""Carbon of one `usage()` [g]."""


def new_partition() -> Partition:
    return Partition("events", 3, estimator=default_estimator())


def apply(partition: Partition, *records: Record) -> Outcome:
    return partition.apply(records, now=NOW, max_event_bytes=1_000_000)


def log(*events: Any) -> list[Record]:
    return [record(event, offset) for offset, event in enumerate(events)]


def carbon(outcome: Outcome) -> list[Any]:
    return CARBON_RECORDS.validate_json(b"[" + b",".join(row[1] for row in outcome.carbon) + b"]")


def commands(outcome: Outcome) -> list[Command]:
    return [Command.model_validate_json(row[1]) for row in outcome.commands]


def state(partition: Partition) -> dict[str, Any]:
    return {run_id: run.dump() for run_id, run in partition.runs.items()}


def recovered(rows: Sequence[tuple[bytes, bytes | None]]) -> Partition:
    partition = new_partition()
    for key, value in rows:
        partition.recover(key, value, now=NOW)
    return partition


def test_totals_are_the_sum_of_the_calls() -> None:
    partition = new_partition()
    later = NOW + timedelta(minutes=5)

    apply(
        partition,
        *log(
            usage(seq=0, cost_usd=0.25),
            usage(seq=1, agent_id="critic", cache_read_tokens=7, cache_write_tokens=9),
            usage(seq=2, reasoning_tokens=50, time=later, cost_usd=0.5),
        ),
    )

    run = partition.runs["run-1"]
    assert run.totals.calls == 3
    assert run.totals.input_tokens == 3000
    assert run.totals.cache_read_tokens == 7
    assert run.totals.cache_write_tokens == 9
    assert run.totals.output_tokens == 600
    assert run.totals.reasoning_tokens == 50
    assert run.totals.cost_usd == 0.75
    assert (run.totals.first_event_at, run.totals.last_event_at) == (NOW, later)
    assert {name: totals.calls for name, totals in run.agents.items()} == {
        "writer": 2,
        "critic": 1,
    }
    agents_g = sum(totals.carbon_g for totals in run.agents.values())
    assert run.totals.carbon_g == pytest.approx(agents_g, rel=1e-15)
    assert run.totals.carbon_g_low < run.totals.carbon_g < run.totals.carbon_g_high


def test_a_carbon_record_keeps_the_contract_and_says_the_totals_after_it() -> None:
    outcome = apply(new_partition(), *log(usage(seq=0, tenant="t"), usage(seq=1)))

    first, second = carbon(outcome)
    assert isinstance(second, Carbon)
    assert (first.source, second.source) == ("events-3-0", "events-3-1")
    assert first.usage == usage(seq=0, tenant="t")
    assert second.carbon_g == CALL_G
    assert second.carbon_g_low < CALL_G < second.carbon_g_high
    assert (second.run_calls, second.run_carbon_g) == (2, 2 * CALL_G)
    assert second.method
    assert second.factors
    assert outcome.counted == 2


def test_unknown_models_cost_something_and_say_so() -> None:
    (found,) = carbon(apply(new_partition(), *log(usage(model="nobody/knows-this"))))

    assert found.carbon_g > 0
    assert any("model" in code for code in found.quality)


def test_lifecycle_events_are_forwarded_with_their_position() -> None:
    finished = RunFinished(run_id="run-1", time=NOW, status="completed")

    outcome = apply(new_partition(), *log(started(carbon_budget_g=5.0), finished))

    assert carbon(outcome) == [
        Lifecycle(source="events-3-0", run_id="run-1", event=started(carbon_budget_g=5.0)),
        Lifecycle(source="events-3-1", run_id="run-1", event=finished),
    ]


def test_a_breach_is_one_command_however_many_calls_follow() -> None:
    calls = [usage(seq=n) for n in range(6)]

    outcome = apply(new_partition(), *log(started(carbon_budget_g=2.5 * CALL_G), *calls))

    (command,) = commands(outcome)
    assert command == Command(
        command_id=command_id("run-1", "carbon_budget_exceeded"),
        run_id="run-1",
        action="abort",
        reason="carbon_budget_exceeded",
        budget_g=2.5 * CALL_G,
        spent_g=CALL_G + CALL_G + CALL_G,
        caused_by="run-1-2",
        issued_at=NOW,
    )


def test_spending_exactly_the_budget_is_within_it() -> None:
    calls = [usage(seq=n) for n in range(2)]

    outcome = apply(new_partition(), *log(started(carbon_budget_g=CALL_G + CALL_G), *calls))

    assert commands(outcome) == []


def test_a_policy_that_comes_after_the_spending_is_checked_at_once() -> None:
    outcome = apply(new_partition(), *log(usage(), started(carbon_budget_g=CALL_G / 2)))

    (command,) = commands(outcome)
    assert command.spent_g == CALL_G
    assert command.caused_by is None


def test_a_later_start_cannot_lift_a_budget() -> None:
    partition = new_partition()
    outcome = apply(partition, *log(started(carbon_budget_g=0.0), started(), usage()))
    assert len(commands(outcome)) == 1

    again = recovered(outcome.rows)
    apply(again, record(started(carbon_budget_g=9.0), 3))
    assert again.runs["run-1"].policy.carbon_budget_g == 0.0


@pytest.mark.parametrize(
    "policy", [{"carbon_budget_g": None}, {"carbon_budget_g": 0.0, "enable_environmental": False}]
)
def test_without_an_enforced_budget_nothing_is_commanded(policy: dict[str, Any]) -> None:
    outcome = apply(new_partition(), *log(started(**policy), usage()))

    assert commands(outcome) == []
    assert outcome.counted == 1


def test_the_bound_of_the_policy_is_what_counts() -> None:
    high = default_estimator().coefficients("gpt-4o", "openai", "us-east-1", NOW).carbon_high
    between = CALL_G * (1 + high) / 2

    def aborted(bound: str) -> bool:
        policy = started(carbon_budget_g=between, bound=bound)
        return bool(commands(apply(new_partition(), *log(policy, usage()))))

    assert aborted("high")
    assert not aborted("central")
    assert not aborted("low")


def test_warnings_come_once_each_before_the_abort() -> None:
    policy = started(carbon_budget_g=4 * CALL_G, warn_at=(0.5, 0.25))
    partition = new_partition()

    causes = [
        (command.action, command.reason)
        for offset, event in enumerate([policy, *(usage(seq=n) for n in range(6))])
        for command in commands(apply(partition, record(event, offset)))
    ]

    assert causes == [
        ("warn", "warn:0.25"),
        ("warn", "warn:0.5"),
        ("abort", "carbon_budget_exceeded"),
    ]


def test_a_producers_duplicate_is_dropped_and_counted() -> None:
    partition = new_partition()

    outcome = apply(partition, *log(usage(seq=0), usage(seq=0), usage(seq=1)))

    assert (outcome.counted, outcome.duplicates) == (2, 1)
    assert [found.usage.seq for found in carbon(outcome)] == [0, 1]
    assert partition.runs["run-1"].duplicates == 1


def test_lost_usage_is_counted_until_it_arrives() -> None:
    partition = new_partition()
    apply(partition, *log(usage(seq=0), usage(seq=4)))
    assert partition.runs["run-1"].lost == 3

    apply(partition, record(usage(seq=2), 2))
    assert partition.runs["run-1"].lost == 2


def test_refused_records_become_dead_letters_and_the_rest_counts() -> None:
    partition = new_partition()

    outcome = apply(
        partition, record(usage(seq=0), 0), raw(1, input_tokens=-1), record(usage(seq=1), 2)
    )

    (letter,) = outcome.letters
    assert (letter.key, letter.value) == (b"run-1", raw(1, input_tokens=-1).value)
    why = DeadLetter.from_headers(letter.headers)
    assert (why.step, why.topic, why.partition, why.offset) == ("validate", "events", 3, 1)
    assert "input_tokens" in why.reason
    assert partition.runs["run-1"].totals.calls == 2
    assert partition.position == 2


def test_a_replay_changes_nothing_but_writes_its_rows_again() -> None:
    records = [*log(started(carbon_budget_g=CALL_G / 2), usage()), raw(2, seq="x")]
    partition = new_partition()
    first = apply(partition, *records)
    before = state(partition)

    again = apply(partition, *records)

    assert state(partition) == before
    assert (again.carbon, again.commands, again.letters) == ([], [], [])
    assert again.rows == first.rows


def test_the_partitions_position_is_the_last_row() -> None:
    outcome = apply(new_partition(), *log(usage("a"), usage("b")))

    assert [row[0] for row in outcome.rows] == [b"a", b"b", POSITION_KEY]
    position = orjson.loads(outcome.rows[-1][1] or b"")
    assert (position["p"], position["at"][0], position["skipped"]) == (1, 1, 0)


def test_recovery_is_exact_to_the_last_digit() -> None:
    partition = new_partition()
    outcome = apply(
        partition,
        *log(
            started(carbon_budget_g=1.0, warn_at=(0.1,)),
            *(
                usage(f"run-{n % 3}", seq=n // 3, input_tokens=n * 7, cost_usd=0.1)
                for n in range(30)
            ),
        ),
    )

    copy = recovered(outcome.rows)

    assert state(copy) == state(partition)
    assert copy.position == partition.position
    more = [record(usage("run-1", seq=n), 31 + n) for n in range(10, 15)]
    assert apply(copy, *more).carbon == apply(partition, *more).carbon


def test_a_zombies_late_write_does_not_win() -> None:
    partition = new_partition()
    old = apply(partition, *log(usage(seq=0)))
    new = apply(partition, record(usage(seq=1), 1))

    copy = recovered([*new.rows, *old.rows])

    assert state(copy) == state(partition)
    assert copy.position == 1


def test_a_tombstone_takes_a_run_away() -> None:
    partition = new_partition()
    apply(partition, *log(usage()))

    partition.recover(b"run-1", None, now=NOW)

    assert partition.runs == {}


def test_usage_after_the_end_of_its_run_counts_and_is_flagged() -> None:
    finished = RunFinished(run_id="run-1", time=NOW, status="completed")
    partition = new_partition()

    outcome = apply(partition, *log(usage(seq=0), finished, usage(seq=1)))

    before, _, after = carbon(outcome)
    assert "after_finish" not in before.quality
    assert "after_finish" in after.quality
    assert partition.runs["run-1"].totals.calls == 2


def test_finished_runs_leave_a_grace_after_their_last_event() -> None:
    partition = new_partition()
    events = [
        *(usage(name) for name in "abc"),
        *(RunFinished(run_id=name, time=NOW, status="completed") for name in "ab"),
    ]
    apply(partition, *log(*events))
    later = NOW + timedelta(seconds=10)
    partition.apply([record(usage("a", seq=1), 5)], now=later, max_event_bytes=1_000_000)

    left = partition.expire(finished_before=later, idle_before=None)
    assert left.rows == [(b"b", None)]
    assert set(partition.runs) == {"a", "c"}

    assert partition.expire(finished_before=later, idle_before=None).rows == []
    left = partition.expire(finished_before=later + timedelta(seconds=1), idle_before=None)
    assert left.rows == [(b"a", None)]


def test_idle_runs_leave_when_asked_for() -> None:
    partition = new_partition()
    apply(partition, *log(usage("a")))

    assert partition.expire(finished_before=NOW, idle_before=NOW).rows == []
    later = NOW + timedelta(seconds=1)
    assert partition.expire(finished_before=later, idle_before=later).rows == [(b"a", None)]


def test_a_replay_does_not_bring_back_a_run_that_left() -> None:
    partition = new_partition()
    records = log(usage(), RunFinished(run_id="run-1", time=NOW, status="completed"))
    apply(partition, *records)
    partition.expire(finished_before=NOW + timedelta(days=1), idle_before=None)

    again = apply(partition, *records)

    assert partition.runs == {}
    assert again.carbon == []


def test_a_late_event_of_a_run_that_left_is_still_counted() -> None:
    partition = new_partition()
    apply(partition, *log(usage(), RunFinished(run_id="run-1", time=NOW, status="completed")))
    partition.expire(finished_before=NOW + timedelta(days=1), idle_before=None)

    outcome = apply(partition, record(usage(seq=1), 2))

    assert outcome.counted == 1
    assert [found.usage.seq for found in carbon(outcome)] == [1]


def test_a_recreated_topic_is_continued_from_its_start_with_the_totals_kept() -> None:
    partition = new_partition()
    rows = [*apply(partition, *log(usage(seq=0), usage(seq=1))).rows]

    partition.continue_recreated()
    outcome = apply(partition, *log(usage(seq=2)))

    (found,) = carbon(outcome)
    assert found.source == "events@1-3-0"
    assert partition.runs["run-1"].totals.calls == 3
    copy = recovered([*rows, *outcome.rows])
    assert (copy.epoch, copy.position) == (1, 0)
    assert state(copy) == state(partition)
    assert recovered([*outcome.rows, *rows]).position == 0, "the old epoch never wins"


def test_a_row_is_bounded_however_many_agents_there_are() -> None:
    partition = new_partition()
    apply(partition, *log(*(usage(seq=n, agent_id=f"a{n}") for n in range(MAX_AGENTS + 5))))

    run = partition.runs["run-1"]
    assert len(run.agents) == MAX_AGENTS + 1
    assert run.agents[OTHER_AGENTS].calls == 5
    assert run.totals.calls == MAX_AGENTS + 5


EVENTS = st.lists(
    st.one_of(
        st.builds(
            usage,
            run_id=st.sampled_from(["a", "b", "c"]),
            seq=st.integers(0, 12),
            agent_id=st.sampled_from(["x", "y"]),
            producer_id=st.sampled_from(["p", "q"]),
            output_tokens=st.integers(0, 5000),
        ),
        st.builds(
            started,
            run_id=st.sampled_from(["a", "b", "c"]),
            carbon_budget_g=st.sampled_from([None, 0.0, CALL_G, 5 * CALL_G]),
            warn_at=st.sampled_from([(), (0.5,)]),
        ),
    ),
    min_size=1,
    max_size=40,
)


@given(EVENTS, st.data())
def test_crashes_and_replays_at_any_point_end_in_the_same_state(
    events: list[Any], data: st.DataObject
) -> None:
    """A worker dies between batches, at any of: outputs sent or not, some rows durable or all.

    log      0 1 2 3 4 5 6 7 8 9
    batch        [-----]            outputs durable, then rows a b | POSITION
    restart    ^ from any committed offset at or before the durable position
    """
    records = log(*events)
    reference = new_partition()
    expected = apply(reference, *records)

    durable: list[tuple[bytes, bytes | None]] = []
    published: dict[str, bytes] = {}
    ordered: dict[bytes, None] = {}
    partition, at = new_partition(), 0
    while at < len(records):
        end = data.draw(st.integers(at + 1, len(records)), label="end of batch")
        outcome = apply(partition, *records[at:end])
        dies = data.draw(st.booleans(), label="dies")
        rows = data.draw(st.integers(0, len(outcome.rows)), label="durable rows") if dies else None
        if rows != 0 or data.draw(st.booleans(), label="outputs durable"):
            for row in outcome.carbon:
                published.setdefault(orjson.loads(row[1])["source"], row[1])
            ordered |= {row[1]: None for row in outcome.commands}
        durable += outcome.rows[:rows]
        at = end
        if dies:
            partition = recovered(durable)
            at = data.draw(st.integers(0, partition.position + 1), label="committed")

    assert state(recovered(durable)) == state(reference)
    assert recovered(durable).position == reference.position
    assert sorted(published.values()) == sorted(row[1] for row in expected.carbon)
    assert {orjson.loads(value)["command_id"] for value in ordered} == {
        orjson.loads(row[1])["command_id"] for row in expected.commands
    }
