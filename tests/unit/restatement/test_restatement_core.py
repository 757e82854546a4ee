"""A restatement: exact against the estimator and the worker, on top of earlier ones, undone."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import fsum
from pathlib import Path
from typing import Any

import pytest
from events import Record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marlin.errors import DataError
from marlin.estimation import Estimator, shipped_factor_set
from marlin.estimation.overrides import overlay
from marlin.restatement import Restatement, compute
from marlin.schemas import Usage, dump
from marlin.sinks.batch import Batch
from marlin.sinks.conformance import NOON, TOPICS, Recorded, batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.measures import FOOTPRINT
from marlin.streams.partition import Partition

DAY = datetime(2026, 5, 1, tzinfo=UTC)
OVERHEAD = """
[factors.host_overhead]
value = 1.9
low = 1.8
high = 2.0
unit = "1"
source = "Rack meters"
date = "2026-05"
licence = "own"
"""
SHIPPED, HIGHER = Estimator(), Estimator(overlay(shipped_factor_set(), OVERHEAD, "overhead.toml"))
MODELS = ("gpt-4o", "small-7b", "nobody-knows")


@pytest.fixture
def sink(tmp_path: Path) -> Generator[DuckDBSink]:
    with DuckDBSink(tmp_path / "marlin.duckdb") as opened:
        opened.bind(identity())
        yield opened


def usage(seq: int, **changes: Any) -> Usage:
    fields: dict[str, Any] = {
        **{"event_id": f"event-{seq}", "run_id": "run-1", "agent_id": f"agent-{seq % 2}"},
        **{"producer_id": "producer-1", "seq": seq, "time": NOON + timedelta(seconds=7 * seq)},
        **{"provider": "aws", "model": MODELS[seq % 3], "region": "eu-west-1"},
        **{
            "input_tokens": 100 + seq * 37,
            "cache_read_tokens": seq * 11,
            "output_tokens": 20 + seq,
        },
        **{"tenant": "acme" if seq % 5 else None},
    }
    return Usage(**(fields | changes))


def metered(usages: list[Usage], estimator: Estimator, first: int = 0) -> Batch:
    """What the worker publishes of these events, as the sink reads it."""
    partition = Partition(TOPICS.events, 0, estimator=estimator)
    log = [Record(n, u.run_id.encode(), dump(u)) for n, u in enumerate(usages, first)]
    out = partition.apply(log, now=NOON, max_event_bytes=1_000_000)
    return batch_of(
        *(Recorded(TOPICS.carbon, 0, n, row[1]) for n, row in enumerate(out.carbon, first))
    )


def restate(sink: DuckDBSink, estimator: Estimator, **changes: Any) -> Restatement:
    given: dict[str, Any] = {
        **{"estimator": estimator, "reason": "test"},
        **{"period_start": DAY, "period_end": DAY + timedelta(days=1)},
    }
    return compute(sink.cursor(), **(given | changes))


def rows(sink: DuckDBSink, sql: str) -> list[tuple[Any, ...]]:
    with sink.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def change(*restatements: Restatement) -> dict[str, Decimal]:
    """Sum of the adjustments, exactly as reports add them up."""
    place = Decimal("1e-12")
    return {
        name: sum(
            (
                Decimal(row[f"new_{name}"]).quantize(place)
                - Decimal(row[f"old_{name}"]).quantize(place)
                for one in restatements
                for row in one.adjustments.to_pylist()
            ),
            Decimal(0),
        )
        for name in FOOTPRINT
    }


def recorded(sink: DuckDBSink) -> dict[str, float]:
    """Totals of the ledger."""
    found = rows(sink, f"SELECT {', '.join(FOOTPRINT)} FROM events")
    return {name: fsum(row[n] for row in found) for n, name in enumerate(FOOTPRINT)}


def test_a_restated_ledger_is_what_the_worker_would_have_written(
    sink: DuckDBSink, tmp_path: Path
) -> None:
    usages = [usage(n) for n in range(700)]
    sink.apply(metered(usages, SHIPPED))
    before = recorded(sink)
    restatement = restate(sink, HIGHER)
    with DuckDBSink(tmp_path / "replayed.duckdb") as replayed:
        replayed.bind(identity())
        replayed.apply(metered(usages, HIGHER))
        after = recorded(replayed)
        groups = rows(
            replayed,
            "SELECT agent_id, tenant, model, date_trunc('hour', event_time), count(*), "
            "list(carbon_g), any_value(array_to_string(quality, ',')), any_value(factors) "
            "FROM events GROUP BY ALL",
        )
    assert restatement.calls == 700
    for name in FOOTPRINT:
        # Groups are summed to the last bit of a double, of which there are a few dozen.
        assert before[name] + float(change(restatement)[name]) == pytest.approx(after[name], 1e-14)
    assert after["carbon_g"] > before["carbon_g"] * 1.05
    by_group = {
        (row["agent_id"], row["tenant"], row["model"], row["hour"]): row
        for row in restatement.adjustments.to_pylist()
    }
    assert len(groups) == len(by_group)
    for agent, tenant, model, hour, calls, carbon_g, codes, factors in groups:
        row = by_group[agent, tenant, model, hour]
        assert (row["calls"], row["new_codes"], row["new_factors"]) == (calls, codes, factors)
        assert row["new_carbon_g"] == pytest.approx(fsum(carbon_g), rel=3e-16, abs=1e-17)


def test_each_call_is_what_its_coefficients_say(sink: DuckDBSink) -> None:
    one = usage(3, output_tokens=500)
    sink.apply(metered([one], SHIPPED))
    (row,) = restate(sink, HIGHER).adjustments.to_pylist()
    counts = (one.input_tokens, one.cache_read_tokens, one.cache_write_tokens, one.output_tokens)
    for when, estimator in (("old", SHIPPED), ("new", HIGHER)):
        by = estimator.coefficients(one.model, one.provider, one.region)
        figures = [row[f"{when}_{name}"] for name in FOOTPRINT]
        assert figures == pytest.approx(by.ranged(*counts), rel=3e-16)
        assert row[f"{when}_factors"] == by.factors
        assert row[f"{when}_codes"] == ",".join(by.codes)


def test_the_second_restatement_begins_where_the_first_ended(sink: DuckDBSink) -> None:
    sink.apply(batch_of(*(carbon(n, provider="aws") for n in range(5000))))
    first = restate(sink, SHIPPED)
    assert sink.adjust(first) == 2
    second = restate(sink, HIGHER)
    assert sink.adjust(second) == 2
    for earlier, later in zip(
        first.adjustments.to_pylist(), second.adjustments.to_pylist(), strict=True
    ):
        for name in (*FOOTPRINT, "codes", "method", "factors"):
            assert later[f"old_{name}"] == earlier[f"new_{name}"]
    assert first.adjustments["old_carbon_g"].to_pylist() == [1800.0, 700.0]
    assert second.after == (first.restatement_id,)
    assert restate(sink, HIGHER).adjustments.num_rows == 0


def test_back_to_the_recorded_factors_is_back_to_the_recorded_figures(sink: DuckDBSink) -> None:
    sink.apply(metered([usage(n) for n in range(900)], SHIPPED))
    away = restate(sink, HIGHER)
    sink.adjust(away)
    back = restate(sink, SHIPPED)
    sink.adjust(back)
    assert away.adjustments.num_rows == back.adjustments.num_rows > 0
    assert set(change(away, back).values()) == {Decimal(0)}
    for name in FOOTPRINT:
        assert back.adjustments[f"new_{name}"] == away.adjustments[f"old_{name}"]
    sums = ", ".join(f"round(sum({name}), 9)" for name in FOOTPRINT)
    assert rows(sink, f"SELECT {sums} FROM restated_hourly") == rows(
        sink, f"SELECT {sums} FROM hourly"
    )


def test_late_events_are_in_the_next_restatement_only(sink: DuckDBSink) -> None:
    sink.apply(batch_of(*(carbon(n, provider="aws") for n in range(10))))
    first = restate(sink, SHIPPED)
    sink.adjust(first)
    sink.apply(batch_of(*(carbon(n, provider="aws") for n in range(10, 14))))
    assert first.positions == {"1": {"0": 10}}
    second = restate(sink, SHIPPED)
    (late,) = second.adjustments.to_pylist()
    assert (late["calls"], late["old_carbon_g"], late["old_factors"]) == (4, 2.0, "f1")
    sink.adjust(second)
    third = restate(sink, HIGHER)
    (both,) = third.adjustments.to_pylist()
    assert (both["calls"], both["old_factors"]) == (14, SHIPPED.factor_set.version)
    expected = SHIPPED.coefficients("gpt-5", "aws", "eu-west-1").footprint(100, 10, 5, 20)[1]
    assert both["old_carbon_g"] == pytest.approx(14 * expected, abs=2e-12)


def test_events_that_come_while_it_runs_are_left_out(sink: DuckDBSink) -> None:
    sink.apply(batch_of(*(carbon(n, provider="aws") for n in range(10))))

    class Racing:
        """A reader during whose work the ledger grows."""

        def __init__(self) -> None:
            self.cursor, self.asked = sink.cursor(), 0

        def execute(self, query: Any, parameters: Any = None, /) -> Any:
            self.asked += 1
            if self.asked == 2:  # the positions are read
                sink.apply(batch_of(*(carbon(n, provider="aws") for n in range(10, 30))))
            return self.cursor.execute(query, parameters)

    found = compute(
        Racing(),
        estimator=SHIPPED,
        reason="race",
        period_start=DAY,
        period_end=DAY + timedelta(days=1),
    )
    assert (found.calls, found.positions) == (10, {"1": {"0": 10}})
    assert found.adjustments["calls"].to_pylist() == [10]


def test_only_the_tenant_and_the_hours_asked_for(sink: DuckDBSink) -> None:
    sink.apply(batch_of(*(carbon(n * 600, n, tenant=("a", "b", None)[n % 3]) for n in range(18))))
    found = restate(
        sink,
        SHIPPED,
        tenant="b",
        period_start=NOON + timedelta(hours=1),
        period_end=NOON + timedelta(hours=2),
    )
    assert found.calls == 2
    assert [(row["tenant"], row["hour"]) for row in found.adjustments.to_pylist()] == [
        ("b", NOON + timedelta(hours=1))
    ]


def test_a_code_that_no_estimate_decides_is_kept(sink: DuckDBSink) -> None:
    sink.apply(batch_of(carbon(0, quality=("region_year", "after_finish", "hardware_assumed"))))
    (row,) = restate(sink, SHIPPED).adjustments.to_pylist()
    codes = SHIPPED.coefficients("gpt-5", "openai", "eu-west-1").codes
    assert row["new_codes"] == ",".join([*codes, "region_year", "after_finish"])


def test_a_ledger_that_lacks_calls_is_refused_unless_told(sink: DuckDBSink) -> None:
    sink.apply(batch_of(carbon(0), carbon(1), carbon(3600), carbon(3601)))
    with sink.cursor() as cursor:
        cursor.execute("DELETE FROM events WHERE source_offset < 2")
    with pytest.raises(DataError, match="holds 2 of the period's 4 calls"):
        restate(sink, SHIPPED)
    found = restate(sink, SHIPPED, partial=True)
    assert (found.calls, found.adjustments["calls"].to_pylist()) == (2, [2])


def test_an_earlier_restatement_of_more_calls_than_are_left_is_refused(sink: DuckDBSink) -> None:
    sink.apply(batch_of(carbon(0), carbon(1)))
    sink.adjust(restate(sink, SHIPPED))
    with sink.cursor() as cursor:
        cursor.execute("DELETE FROM events WHERE source_offset = 0")
        cursor.execute("UPDATE hourly SET calls = 1")
    with pytest.raises(DataError, match="changed other calls of run run-0"):
        restate(sink, HIGHER)
    assert restate(sink, HIGHER, partial=True).adjustments.num_rows == 0


def test_a_period_is_of_full_hours_and_may_be_empty(sink: DuckDBSink) -> None:
    with pytest.raises(DataError, match="is not a full hour"):
        restate(sink, SHIPPED, period_start=DAY + timedelta(minutes=30))
    with pytest.raises(DataError, match="where it begins or before"):
        restate(sink, SHIPPED, period_end=DAY)
    found = restate(sink, SHIPPED)
    assert (found.calls, found.adjustments.num_rows, found.positions) == (0, 0, {})


def test_progress_counts_every_call(sink: DuckDBSink) -> None:
    sink.apply(batch_of(*(carbon(n) for n in range(20))))
    told: list[tuple[int, int]] = []

    def tell(done: int, calls: int) -> None:
        told.append((done, calls))

    restate(sink, SHIPPED, progress=tell)
    assert told[-1] == (20, 20)


CALLS = st.lists(
    st.tuples(
        st.sampled_from(MODELS),
        st.integers(0, 3),
        st.integers(0, 100_000),
        st.sampled_from(("a", None)),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CALLS, st.permutations([SHIPPED, HIGHER]))
def test_adjustments_add_up_to_the_last_estimate(
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[tuple[str, int, int, str | None]],
    order: list[Estimator],
) -> None:
    usages = [
        usage(n, model=model, input_tokens=tokens, tenant=tenant, time=NOON + timedelta(hours=hour))
        for n, (model, hour, tokens, tenant) in enumerate(calls)
    ]
    half = len(usages) // 2
    with DuckDBSink(tmp_path_factory.mktemp("random") / "marlin.duckdb") as sink:
        sink.bind(identity())
        done: list[Restatement] = []
        for estimator, part, first in (
            (order[0], usages[:half], 0),
            (order[1], usages[half:], half),
        ):
            if part:
                sink.apply(metered(part, SHIPPED, first))
            done.append(restate(sink, estimator))
            sink.adjust(done[-1])
        before = recorded(sink)
    each = [
        order[1]
        .coefficients(one.model, one.provider, one.region)
        .ranged(one.input_tokens, one.cache_read_tokens, one.cache_write_tokens, one.output_tokens)
        for one in usages
    ]
    for place, name in enumerate(FOOTPRINT):
        expected = fsum(figures[place] for figures in each)
        assert before[name] + float(change(*done)[name]) == pytest.approx(expected, 1e-12, 1e-10)
