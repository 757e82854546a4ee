"""A ledger whose old rows were removed is well; its totals are compared with each other."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from marlin.doctor.accounts import Reconciled, read_snapshot
from marlin.doctor.examination import check_accounts
from marlin.ledger import trim
from marlin.settings import Settings
from marlin.sinks.conformance import TOPICS, batch_of, carbon, identity, started
from marlin.sinks.duckdb_sink import DuckDBSink


def test_removed_calls_are_no_difference_but_wrong_totals_are(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with DuckDBSink(settings.database_path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(started(0, run_id="no-calls"), *(carbon(n) for n in range(1, 4))))
        sink.apply(batch_of(carbon(86_400), carbon(5, partition=1)))
    assert read_snapshot(settings, identity(), TOPICS).removed == 0
    trim(date(2026, 5, 2), settings=settings)
    snapshot = read_snapshot(settings, identity(), TOPICS)
    assert snapshot.removed == 4
    assert snapshot.events.total.calls == 1
    assert snapshot.differences() == []
    with DuckDBSink(settings.database_path) as sink, sink.cursor() as cursor:
        cursor.execute("UPDATE runs SET calls = calls + 1 WHERE run_id = 'run-0'")
    changed = read_snapshot(settings, identity(), TOPICS).differences()
    assert {difference.run_id for difference in changed} == {"run-0", "(all runs)"}


def test_it_is_told() -> None:
    reconciled = Reconciled([], calls=7, repeated=0, unreadable=0, cut=0, removed=4)
    check = check_accounts(reconciled, events_behind=0, records_behind=0, has_database=True)
    assert check.status == "ok"
    assert "4 calls removed from the ledger, whose rows are therefore not compared" in check.text
