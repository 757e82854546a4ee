"""Accounts held against each other: exact where they can be, honest where they cannot."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from events import NOW, Record, record, started, usage
from hypothesis import given
from hypothesis import strategies as st

from marlin.doctor.accounts import CarbonReader
from marlin.estimation import default_estimator
from marlin.reconcile import (
    Account,
    Lives,
    Log,
    Position,
    Seen,
    Sums,
    compare,
    position_of,
    table_account,
)
from marlin.schemas import CARBON_RECORDS, Carbon, RunStarted, SourcePosition, Usage
from marlin.streams.partition import Partition
from marlin.totals import OTHER_AGENTS

Event = Usage | RunStarted


def account(**runs: int) -> Account:
    """An account of runs with so many calls of 1000 and 200 tokens each, by one agent."""
    made = Account()
    for run_id, calls in runs.items():
        for seq in range(calls):
            made.add(usage(run_id, seq=seq))
    return made


class Metered:
    """A partition of the run table and the carbon records it led to."""

    def __init__(self, epoch: int = 0) -> None:
        self.partition = Partition("events", 0, estimator=default_estimator())
        self.partition.epoch = epoch
        self.carbon: list[Carbon] = []
        self.offset = 0

    def handle(self, *events: Event) -> None:
        """Handle events as one batch."""
        records: list[Record] = []
        for event in events:
            records.append(record(event, self.offset))
            self.offset += 1
        outcome = self.partition.apply(records, now=NOW, max_event_bytes=1_000_000)
        values = b",".join(row[1] for row in outcome.carbon)
        found = CARBON_RECORDS.validate_json(b"[" + values + b"]")
        self.carbon += [one for one in found if isinstance(one, Carbon)]

    def differences(
        self, carbon: Sequence[Carbon] | None = None, *, is_whole: bool = True
    ) -> list[str]:
        lives = Lives(self.partition.runs)
        for one in self.carbon if carbon is None else carbon:
            lives.add(one, SourcePosition.parse(one.source))
        return [str(one) for one in lives.differences(is_whole=is_whole)]


# -- comparing


def test_equal_accounts_do_not_differ() -> None:
    assert list(compare("a", account(x=3, y=1), "b", account(x=3, y=1))) == []


def test_a_difference_names_account_run_agent_and_numbers() -> None:
    found = account(x=3, y=1)
    found.runs["x"].output_tokens += 7
    found.agents["x", "writer"].output_tokens += 7

    told = [str(one) for one in compare("DuckDB events", found, "carbon topic", account(x=3, y=1))]

    assert told == [
        "DuckDB events: run x: output_tokens 607, expected 600 (carbon topic)",
        "DuckDB events: run x, agent writer: output_tokens 607, expected 600 (carbon topic)",
    ]


def test_what_is_missing_and_what_should_not_be_there() -> None:
    told = [str(one) for one in compare("a", account(x=2), "b", account(y=3))]

    assert told == [
        "a: run x: unexpected, found 2 calls (b)",
        "a: run y: missing, expected 3 calls (b)",
        "a: run x, agent writer: unexpected, found 2 calls (b)",
        "a: run y, agent writer: missing, expected 3 calls (b)",
    ]


def test_a_run_without_calls_may_be_missing() -> None:
    empty = Account(runs={"x": Sums()}, agents={("x", "writer"): Sums()})

    assert list(compare("a", empty, "b", Account())) == []
    assert list(compare("a", Account(), "b", empty)) == []


@pytest.mark.parametrize("name", Sums.__slots__)
def test_every_count_is_compared(name: str) -> None:
    found = account(x=2)
    setattr(found.runs["x"], name, getattr(found.runs["x"], name) + 1)

    (difference,) = compare("a", found, "b", account(x=2))

    assert name in str(difference)


def test_the_total_is_of_all_runs() -> None:
    assert account(x=2, y=3).total == Sums(calls=5, input_tokens=5000, output_tokens=1000)


# -- positions


@pytest.mark.parametrize(
    ("source", "position"),
    [
        ("marlin.events.v1-3-17", Position(0, 17)),
        ("my-prefix.marlin.events.v1-3-17", Position(0, 17)),
        ("marlin.events.v1@2-3-17", Position(2, 17)),
    ],
)
def test_a_source_has_a_position(source: str, position: Position) -> None:
    assert position_of(SourcePosition.parse(source)) == position


def test_positions_of_a_recreated_topic_come_later() -> None:
    assert Position(0, 10**9) < Position(1, 0)


# -- repeats


def test_what_was_published_again_is_dropped_and_counted() -> None:
    seen = Seen()
    sources = [("t", 0, n) for n in (3, 4, 7, 4, 7, 8)] + [("t", 1, 3), ("t@1", 0, 0)]

    new = [SourcePosition(*one) for one in sources if seen.is_new(SourcePosition(*one))]

    assert [one.offset for one in new] == [3, 4, 7, 8, 3, 0]
    assert seen.repeated == 2
    assert (seen.bounds[Log("t", 0)].lowest, seen.bounds[Log("t", 0)].highest) == (3, 8)


# -- the run table against the carbon topic


def test_the_table_and_its_carbon_records_agree() -> None:
    metered = Metered()
    metered.handle(started("a"), *[usage(r, seq=n) for n in range(5) for r in ("a", "b")])

    assert metered.differences() == []
    assert table_account([metered.partition]) == account(a=5, b=5)


def test_carbon_beyond_the_row_is_not_compared() -> None:
    """The topic is read after the table, and may have more."""
    metered = Metered()
    metered.handle(usage("a", seq=0), usage("a", seq=1))
    row = metered.partition.runs["a"]
    later = Metered()
    later.handle(usage("a", seq=0), usage("a", seq=1), usage("a", seq=2))
    lives = Lives({"a": row})
    for one in later.carbon:
        lives.add(one, SourcePosition.parse(one.source))

    assert lives.differences(is_whole=True) == []


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_lost_carbon_record_is_a_difference(missing: int) -> None:
    metered = Metered()
    metered.handle(*[usage("a", seq=n) for n in range(3)])
    left = [one for index, one in enumerate(metered.carbon) if index != missing]

    told = metered.differences(left)

    assert told[0].startswith("run table: run a: calls 3, expected 2, input_tokens 3000,")
    assert len(told) == 2  # the run and its agent


def test_a_carbon_record_too_many_is_a_difference() -> None:
    metered = Metered()
    metered.handle(*[usage("a", seq=n) for n in range(3)])
    metered.partition.runs["a"].calls -= 1

    assert metered.differences() == ["run table: run a: calls 2, expected 3 (carbon topic)"]


def test_a_run_that_came_back_counts_from_nought() -> None:
    metered = Metered()
    metered.handle(usage("a", seq=0, agent_id="planner"), usage("a", seq=1), usage("b"))
    del metered.partition.runs["a"]  # finished, and its grace period is over
    metered.handle(usage("a", seq=2))

    assert metered.partition.runs["a"].totals.calls == 1
    assert metered.differences() == []


def test_a_run_that_left_is_no_difference() -> None:
    metered = Metered()
    metered.handle(usage("a"), usage("b"))
    del metered.partition.runs["a"]

    assert metered.differences() == []


def test_a_recreated_topic_goes_on_counting() -> None:
    metered = Metered()
    metered.handle(usage("a", seq=0), usage("a", seq=1))
    metered.partition.continue_recreated()
    metered.offset = 0
    metered.handle(usage("a", seq=2))

    assert metered.carbon[-1].source == "events@1-0-0"
    assert metered.partition.runs["a"].totals.calls == 3
    assert metered.differences() == []


def test_a_row_sums_up_agents_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marlin.totals.MAX_AGENTS", 2)
    metered = Metered()
    metered.handle(*[usage("a", seq=n, agent_id=f"agent-{n % 4}") for n in range(8)])

    assert set(metered.partition.runs["a"].agents) == {"agent-0", "agent-1", OTHER_AGENTS}
    assert metered.differences() == []


def test_what_retention_removed_is_compared_in_part() -> None:
    metered = Metered()
    metered.handle(*[usage(r, seq=n) for n in range(4) for r in ("a", "b")], usage("c"))
    # Two calls of a, two of b.
    left = [one for one in metered.carbon if one.usage.run_id != "c"][4:]

    assert metered.differences(left, is_whole=False) == []
    metered.partition.runs["a"].calls += 1
    assert metered.differences(left, is_whole=False) == [
        "run table: run a: calls 5, expected 4 (carbon topic)"
    ]
    # Nothing was removed: then all of it is missing.
    assert len([one for one in metered.differences(left) if "agent" not in one]) == 3


# -- any order of repeats and restarts

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from("abc")),
        st.tuples(st.just("again"), st.integers(1, 6)),
        st.tuples(st.just("leave"), st.sampled_from("abc")),
    ),
    max_size=40,
)


@given(_STEPS, st.integers(0, 40))
def test_any_history_agrees_and_any_loss_shows(steps: list[tuple[str, object]], at: int) -> None:
    metered, topic, seq = Metered(), list[Carbon](), dict[object, int]()
    for kind, what in steps:
        if kind == "event":
            seq[what] = seq.get(what, -1) + 1
            metered.handle(usage(str(what), seq=seq[what], agent_id=f"agent-{seq[what] % 2}"))
            topic.append(metered.carbon[-1])
        elif kind == "again":
            assert isinstance(what, int)
            topic += topic[-what:]  # a worker was killed before its rows were durable
        else:
            metered.partition.runs.pop(str(what), None)
            # As the table does: a producer that goes on is new to it.
    reader = CarbonReader(metered.partition.runs, {Log("events", 0): at})
    reader.read([_Carried(one) for one in topic])  # type: ignore[misc]

    assert reader.lives.differences(is_whole=True) == []
    assert reader.account.total.calls == len(metered.carbon)
    assert reader.seen.repeated == len(topic) - len(metered.carbon)
    assert reader.taken_in.total.calls == min(at, len(metered.carbon))

    present = [one for one in metered.carbon if one.usage.run_id in metered.partition.runs]
    if present:
        reader = CarbonReader(metered.partition.runs, {})
        reader.read([_Carried(one) for one in metered.carbon if one is not present[-1]])  # type: ignore[misc]
        assert reader.lives.differences(is_whole=True) != []


class _Carried:
    """A carbon record on its topic."""

    def __init__(self, carbon: Carbon) -> None:
        self.value = carbon.model_dump_json().encode()
