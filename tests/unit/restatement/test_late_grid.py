"""Late and revised grid data becomes adjustments, each once, whatever is repeated."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from events import Record, usage

from marlin.estimation import Estimator, default_estimator
from marlin.restatement.core import Restatement, compute
from marlin.restatement.late_grid import LateGrid, newest_grid
from marlin.schemas import GridRecord, dump
from marlin.sinks.conformance import TOPICS, Recorded, identity
from marlin.sinks.decode import decode
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.streams.partition import Partition

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = HOUR + timedelta(hours=30, minutes=20)
H = timedelta(hours=1)
YEAR_IE = 403.4


class Pipeline:
    """A worker without a grid before a real sink, and what is told of the grid meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partition = Partition(TOPICS.events, 0, estimator=default_estimator())
        self.told = 0
        self.carbon = 0
        self.open()

    def open(self) -> None:
        self.sink = DuckDBSink(self.path)
        self.sink.bind(identity())
        self.late = LateGrid(self.sink.adjust)

    def restart(self) -> None:
        self.sink.close()
        self.open()

    def calls(self, *calls: dict[str, Any]) -> None:
        first = self.partition.position + 1
        records = [
            Record(first + n, b"run-1", dump(usage(seq=first + n, provider="aws", **call)))
            for n, call in enumerate(calls)
        ]
        outcome = self.partition.apply(records, now=NOW, max_event_bytes=10_000)
        self._apply(
            *[
                Recorded(TOPICS.carbon, 0, self.carbon + n, value, key)
                for n, (key, value) in enumerate(outcome.carbon)
            ]
        )
        self.carbon += len(outcome.carbon)

    def tell(
        self, value: float, *, zone: str = "IE", hour: datetime = HOUR, revision: int = 0
    ) -> None:
        record = GridRecord(
            zone=zone,
            hour=hour,
            revision=revision,
            intensity_g_per_kwh=value,
            basis="lifecycle",
            estimate="measured",
            source="script",
            fetched_at=NOW,
        )
        self._apply(Recorded(TOPICS.grid, 0, self.told, dump(record), record.key))
        self.told += 1

    def _apply(self, *records: Recorded) -> None:
        self.sink.apply(decode([records], TOPICS, NOW))

    def look(self, now: datetime = NOW) -> list[Restatement]:
        return self.late.run(self.sink.cursor(), now=now, days=30)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.sink.cursor().execute(query).fetchall()

    def restated_g(self) -> float:
        """Carbon of the ledger with all adjustments."""
        ((value,),) = self.rows(
            "SELECT (SELECT sum(carbon_g) FROM events) + (SELECT coalesce(sum(new_carbon_g - "
            "old_carbon_g), 0) FROM adjustments)"
        )
        return float(value)

    def energy_wh(self) -> float:
        ((value,),) = self.rows("SELECT sum(energy_wh) FROM events")
        return float(value)


@pytest.fixture
def pipeline(tmp_path: Path) -> Generator[Pipeline]:
    made = Pipeline(tmp_path / "late.duckdb")
    yield made
    made.sink.close()


IE = {"region": "eu-west-1", "time": HOUR}


def test_a_late_value_adjusts_the_hours_calls_once(pipeline: Pipeline) -> None:
    pipeline.calls(IE, IE, {**IE, "time": HOUR + H}, {"region": "us-east-1", "time": HOUR})
    before_g = pipeline.restated_g()
    pipeline.tell(250.0)

    (written,) = pipeline.look()
    again = pipeline.look()

    assert (written.kind, written.period_start, written.period_end) == ("grid", HOUR, HOUR + H)
    assert again == []
    assert pipeline.rows(
        "SELECT hour, region, calls, new_carbon_g / old_carbon_g, new_energy_wh - old_energy_wh "
        "FROM adjustments"
    ) == [(HOUR, "eu-west-1", 2, pytest.approx(250.0 / YEAR_IE), 0.0)]
    ((codes,),) = pipeline.rows("SELECT new_codes FROM adjustments")
    assert "intensity_hour" in codes.split(",")
    ((energy_wh,),) = pipeline.rows(
        "SELECT sum(energy_wh) FROM events WHERE region = 'eu-west-1' AND event_time < "
        f"'{HOUR + H}'"
    )
    assert before_g - pipeline.restated_g() == pytest.approx(energy_wh * (YEAR_IE - 250.0) / 1000)


def test_history_itself_does_not_change(pipeline: Pipeline) -> None:
    pipeline.calls(IE)
    recorded = pipeline.rows("SELECT * FROM events")
    pipeline.tell(250.0)
    pipeline.look()

    assert pipeline.rows("SELECT * FROM events") == recorded


def test_each_revision_adjusts_on_top_of_the_one_before(pipeline: Pipeline) -> None:
    pipeline.calls(IE)
    for revision, value in enumerate((250.0, 300.0, YEAR_IE)):
        pipeline.tell(value, revision=revision)
        assert len(pipeline.look()) == 1
        assert pipeline.restated_g() == pytest.approx(pipeline.energy_wh() * value / 1000)
        assert pipeline.look() == []

    assert pipeline.rows("SELECT count(*) FROM restatements") == [(3,)]


def test_a_restart_adjusts_nothing_again(pipeline: Pipeline) -> None:
    pipeline.calls(IE)
    pipeline.tell(250.0)
    pipeline.look()
    adjusted = pipeline.rows("SELECT * FROM adjustments")

    pipeline.restart()

    assert pipeline.look() == []
    assert pipeline.rows("SELECT * FROM adjustments") == adjusted
    pipeline.tell(260.0, revision=1)
    assert len(pipeline.look()) == 1
    assert pipeline.restated_g() == pytest.approx(pipeline.energy_wh() * 0.26)


def test_killed_before_it_was_written_it_is_written_by_the_next(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.calls(IE)
    pipeline.tell(250.0)

    def killed(_: Restatement) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.late, "_adjust", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.look()
    assert pipeline.rows("SELECT count(*) FROM adjustments") == [(0,)]

    pipeline.restart()
    assert len(pipeline.look()) == 1
    assert pipeline.rows("SELECT count(*) FROM adjustments") == [(1,)]


def test_an_event_that_comes_late_is_adjusted_too(pipeline: Pipeline) -> None:
    pipeline.calls(IE)
    pipeline.tell(250.0)
    pipeline.look()
    pipeline.calls(IE)

    assert len(pipeline.look()) == 1
    assert pipeline.restated_g() == pytest.approx(pipeline.energy_wh() * 0.25)


def test_neighbouring_hours_are_one_restatement_others_are_apart(pipeline: Pipeline) -> None:
    for n in (0, 1, 5):
        pipeline.calls({**IE, "time": HOUR + n * H})
        pipeline.tell(250.0 + n, hour=HOUR + n * H)

    written = pipeline.look()

    assert [(one.period_start - HOUR) // H for one in written] == [0, 5]
    assert [(one.period_end - HOUR) // H for one in written] == [2, 6]
    assert [one.adjustments.num_rows for one in written] == [2, 1]


def test_the_present_hour_waits_and_hours_of_long_ago_stay(pipeline: Pipeline) -> None:
    present = NOW.replace(minute=0)
    old = present - timedelta(days=31)
    for hour in (old, present):
        pipeline.calls({**IE, "time": hour})
        pipeline.tell(250.0, hour=hour)

    assert pipeline.look() == []
    (written,) = pipeline.look(NOW + H)
    assert written.period_start == present


@pytest.mark.parametrize("region", ["us-east-1", "nowhere", ""])
def test_calls_elsewhere_are_left_alone(pipeline: Pipeline, region: str) -> None:
    pipeline.calls({"region": region, "time": HOUR})
    pipeline.tell(250.0)

    assert pipeline.look() == []


def test_what_is_estimated_again_for_another_reason_keeps_its_hour(pipeline: Pipeline) -> None:
    pipeline.calls(IE, {**IE, "time": HOUR + H})
    within = (pipeline.sink.cursor(), HOUR, HOUR + 2 * H)
    assert newest_grid(*within) is None
    pipeline.tell(250.0)
    pipeline.tell(260.0, revision=1)
    pipeline.look()

    grid = newest_grid(*within)
    assert grid is not None
    assert grid.intensity_g_per_kwh("IE", HOUR) == 260.0
    assert grid.intensity_g_per_kwh("IE", HOUR + H) is None
    again = compute(
        within[0],
        estimator=Estimator(grid=grid),
        reason="other factors",
        period_start=HOUR,
        period_end=HOUR + 2 * H,
    )
    assert again.adjustments.num_rows == 0


def test_hours_of_other_factors_are_left_alone_and_said_once(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.calls(IE)
    pipeline.sink._connection.execute("UPDATE events SET factors = 'older'")  # pyright: ignore[reportPrivateUsage]
    pipeline.tell(250.0)

    assert pipeline.look() == []
    assert pipeline.look() == []
    assert len([r for r in caplog.records if "2026-03-01T12Z" in r.message]) == 1
