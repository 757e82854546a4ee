"""What the checks say, from values alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from events import record, usage
from pydantic import SecretStr

from marlin.doctor.accounts import Reconciled
from marlin.doctor.check import counted, listed
from marlin.doctor.cluster import Group, check_clock, check_lag, check_topics, check_workers
from marlin.doctor.configuration import changed_settings, check_factors
from marlin.doctor.database import check_sink, sink_lag
from marlin.doctor.examination import check_accounts
from marlin.doctor.table import check_skipped, check_usage
from marlin.estimation import default_estimator
from marlin.reconcile import Difference, Sums
from marlin.settings import KafkaSettings, Settings, SinkSettings
from marlin.sinks.discovery import publish_server
from marlin.sinks.identity import Identity, TopicIdentity
from marlin.streams.partition import Partition
from marlin.topics import Topics

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TOPICS = Topics()
P0, P1 = TopicPartition(TOPICS.events, 0), TopicPartition(TOPICS.events, 1)


def identity(**partitions: int) -> Identity:
    counts = dict.fromkeys(TOPICS.all(), 4) | {getattr(TOPICS, n): c for n, c in partitions.items()}
    return Identity("c", {n: TopicIdentity("id", tuple(range(c))) for n, c in counts.items() if c})


def group(members: int = 1, *, moved: bool = False, **committed: int) -> Group:
    at = {P0: committed.get("p0", 10), P1: committed.get("p1", 20)}
    return Group("Stable", members, {P0: 10, P1: 20}, at, moved)


def test_only_changed_settings_are_told_and_no_secret() -> None:
    settings = Settings(
        kafka=KafkaSettings(partitions=3, sasl_password=SecretStr("hunter2")),
        sink=SinkSettings(database=Path("x.duckdb")),
        home=Settings.model_fields["home"].default,
    )

    assert changed_settings(settings) == [
        "MARLIN_KAFKA__PARTITIONS=3",
        "MARLIN_KAFKA__SASL_PASSWORD=**********",
        "MARLIN_SINK__DATABASE=x.duckdb",
    ]


def test_old_factors_are_worth_a_look() -> None:
    released = datetime.fromisoformat(default_estimator().factor_set.version[:10] + "T00:00Z")

    assert check_factors(released - timedelta(days=2)).text.endswith(", 0 days old")
    assert check_factors(released + timedelta(days=365)).status == "ok"
    assert check_factors(released + timedelta(days=366)).status == "warn"


def test_topics_must_be_there_in_equal_partitions() -> None:
    assert check_topics(identity(), TOPICS).status == "ok"
    assert check_topics(identity(carbon=0), TOPICS).text == f"missing: {TOPICS.carbon}"
    differing = check_topics(identity(runs=5), TOPICS)
    assert differing.status == "fail"
    assert f"{TOPICS.runs}: 5" in differing.details


@pytest.mark.parametrize(
    ("found", "workers", "lag"),
    [
        (group(), "ok", "ok"),
        (group(p1=15, moved=True), "ok", "ok"),
        (group(p1=15), "ok", "warn"),
        (group(0), "warn", "ok"),
        (group(0, p1=15), "fail", "warn"),
    ],
)
def test_workers_and_their_lag(found: Group, workers: str, lag: str) -> None:
    assert check_workers(found).status == workers
    assert check_lag(found).status == lag


def test_lag_is_told_by_partition() -> None:
    check = check_lag(group(p0=3, p1=15, moved=True))

    assert check.text == "12 events behind on 2 partitions, and moving"
    assert check.details == (f"{TOPICS.events}-0: at 3 of 10", f"{TOPICS.events}-1: at 15 of 20")


def test_a_committed_offset_beyond_the_end_is_no_lag() -> None:
    assert group(p0=11).lag == {}


@pytest.mark.parametrize(
    ("ahead_s", "kind", "status"),
    [(5, 0, "warn"), (5, 1, "warn"), (1, 1, "ok"), (-900, 1, "ok"), (-900, 0, "skip")],
)
def test_only_a_record_from_the_future_tells_of_clocks(
    ahead_s: int, kind: int, status: str
) -> None:
    stamped_ms = int((NOW + timedelta(seconds=ahead_s)).timestamp() * 1000)

    assert check_clock(stamped_ms, kind, NOW).status == status


def test_without_a_record_clocks_are_not_compared() -> None:
    assert check_clock(None, 0, NOW).status == "skip"


def test_the_sink_lags_by_what_the_logs_still_hold() -> None:
    # Of P0 it has read 3 of 10; P1's first 15 are gone and were never read.
    assert sink_lag({P0: 3}, {P0: 0, P1: 15}, {P0: 10, P1: 20}) == {P0: 7, P1: 5}
    assert sink_lag({P0: 10, P1: 20}, {P0: 0, P1: 0}, {P0: 10, P1: 20}) == {}


def test_a_sink_is_found_by_its_file(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    lag = {TopicPartition(TOPICS.carbon, 0): 4, TopicPartition(TOPICS.commands, 0): 1}
    assert check_sink(settings, TOPICS, lag).text == (
        "does not run here; 5 records to take in (4 of them carbon)"
    )

    publish_server(settings.database_path, "http://127.0.0.1:1")

    assert check_sink(settings, TOPICS, {}).status == "ok"


def test_lost_usage_and_repeats_of_producers() -> None:
    partition = Partition("events", 0, estimator=default_estimator())
    events = [usage("a", seq=0), usage("a", seq=0), usage("a", seq=4), usage("b", seq=2)]
    records = [record(event, offset) for offset, event in enumerate(events)]
    partition.apply(records, now=NOW, max_event_bytes=100_000)

    check = check_usage([partition])

    assert check.status == "warn"
    assert check.text == (
        "2 runs in the table; 1 repeated event dropped; 5 usage events lost by producers"
    )
    assert check.details == ("run a: 3 lost", "run b: 2 lost")


def test_skipped_offsets_are_shown() -> None:
    table = [Partition("events", n, estimator=default_estimator()) for n in range(3)]
    assert check_skipped(table).status == "ok"
    table[2].skipped = 40

    assert check_skipped(table).status == "warn"
    assert check_skipped(table).details == ("events-2: 40 skipped",)


def test_accounts_that_agree_say_how_far_they_were_compared() -> None:
    agreed = Reconciled([], calls=7, repeated=0, unreadable=0, cut=0)

    check = check_accounts(agreed, events_behind=3, records_behind=0, has_database=True)

    assert check.status == "ok"
    assert check.text == (
        "run table, carbon topic and database agree: 7 calls on the carbon topic; compared up to "
        "where each had come: 3 events not yet handled, 0 records not yet taken in"
    )


def test_accounts_that_differ_fail_however_busy_the_system_is() -> None:
    difference = Difference("DuckDB runs", "DuckDB events", "r", None, Sums(2), Sums(3))
    differ = Reconciled([difference], calls=7, repeated=1, unreadable=2, cut=3)

    check = check_accounts(differ, events_behind=9, records_behind=9, has_database=True)

    assert check.status == "fail"
    assert "1 difference in 1 run" in check.text
    assert "2 unreadable records" in check.text
    assert check.details == ("DuckDB runs: run r: calls 3, expected 2 (DuckDB events)",)


def test_numbers_and_lists_are_readable() -> None:
    assert (counted(1, "run"), counted(2000, "run")) == ("1 run", "2,000 runs")
    assert listed(list("abc")) == "a, b, c"
    assert listed([str(n) for n in range(8)]) == "0, 1, 2, 3, 4 and 3 more"
