"""What a database holds, and what of it the topics could not give again."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import duckdb
import pytest

from marlin.errors import SinkError
from marlin.estimation.factorset import shipped_factor_set
from marlin.sinks import conformance as made
from marlin.sinks.batch import TopicPartition
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.identity import Identity, TopicIdentity
from marlin.sinks.inventory import Inventory, Read, irrecoverable, take_inventory

CARBON = made.TOPICS.carbon
IDENTITY = made.identity()
BEGINS = {TopicPartition(topic, n): 0 for topic in IDENTITY.topics for n in range(2)}
ENDS = dict.fromkeys(BEGINS, 100)


@pytest.fixture
def sink(tmp_path: Path) -> Generator[DuckDBSink]:
    with DuckDBSink(tmp_path / "marlin.duckdb") as sink:
        sink.bind(IDENTITY)
        sink.apply(
            made.batch_of(
                *[made.carbon(n) for n in range(1, 5)],
                *[made.carbon(n, partition=1) for n in range(3)],
                made.command(at=0),
                made.dead_letter(9, 0),
            )
        )
        yield sink


@pytest.fixture
def inventory(sink: DuckDBSink) -> Inventory:
    return take_inventory(sink.cursor())


def test_everything_is_counted(inventory: Inventory) -> None:
    assert inventory.holdings.to_dict() == {
        "events": 7,
        "runs": 2,
        "agents": 2,
        "hourly": 1,
        "commands": 1,
        "dead_letters": 1,
        "input_tokens": 700,
        "cache_read_tokens": 70,
        "cache_write_tokens": 35,
        "output_tokens": 140,
        "reasoning_tokens": 14,
        "energy_wh": 7.0,
        "carbon_g": 3.5,
        "water_ml": 14.0,
    }
    assert Read("cluster-1", CARBON, "carbon-id", 0, 5) in inventory.read
    assert Read("cluster-1", CARBON, "carbon-id", 1, 3) in inventory.read
    assert inventory.other_tables == ()


def test_an_empty_database_holds_nothing(tmp_path: Path) -> None:
    with DuckDBSink(tmp_path / "empty.duckdb") as sink:
        holdings = take_inventory(sink.cursor()).holdings

    assert set(holdings.to_dict().values()) == {0}


def test_what_is_no_database_of_marlins_is_said_so() -> None:
    with pytest.raises(SinkError, match="cannot be read as a database of Marlin's"):
        take_inventory(duckdb.connect())


def test_whole_topics_give_everything_again(inventory: Inventory) -> None:
    assert irrecoverable(inventory, IDENTITY, BEGINS, ENDS) == []


def test_retention_took_no_more_than_was_read(inventory: Inventory) -> None:
    begins = BEGINS | {TopicPartition(CARBON, 0): 2, TopicPartition(CARBON, 1): 50}

    assert irrecoverable(inventory, IDENTITY, begins, ENDS) == [
        f"{CARBON}-0 begins at offset 2: 2 records that were read from it are gone (retention)",
        f"{CARBON}-1 begins at offset 50: 3 records that were read from it are gone (retention)",
    ]


def test_a_log_that_ends_too_early_was_recreated(inventory: Inventory) -> None:
    ends = ENDS | {TopicPartition(CARBON, 0): 4}

    assert irrecoverable(inventory, IDENTITY, BEGINS, ends) == [
        f"{CARBON}-0 ends at offset 4, it was read up to 5: it was recreated"
    ]


def test_a_topic_with_another_id_was_recreated(inventory: Inventory) -> None:
    told = irrecoverable(inventory, made.identity(carbon="another"), BEGINS, ENDS)

    assert told == [f"8 records were read from a {CARBON} that was recreated since"]


def test_another_cluster_and_a_missing_topic(inventory: Inventory) -> None:
    topics = {CARBON: TopicIdentity("carbon-id", (0, 1))}

    told = irrecoverable(inventory, Identity("cluster-2", topics), BEGINS, ENDS)

    assert told[0] == (
        f"8 records were read from a {CARBON} that was on another cluster "
        "(cluster-1, this one is cluster-2)"
    )
    assert len(told) == 3


def test_tables_of_others_are_named_when_they_have_rows(sink: DuckDBSink) -> None:
    cursor = sink.cursor()
    cursor.execute('CREATE TABLE "odd ""name" (x INTEGER)')
    assert take_inventory(sink.cursor()).other_tables == ()
    cursor.execute('INSERT INTO "odd ""name" VALUES (1)')

    inventory = take_inventory(sink.cursor())

    assert irrecoverable(inventory, IDENTITY, BEGINS, ENDS) == [
        'table odd "name has rows that no topic has'
    ]


def test_a_factor_set_whose_content_is_only_here_would_be_lost(sink: DuckDBSink) -> None:
    shipped = shipped_factor_set().version
    add = "INSERT INTO factor_sets VALUES (?, 'm1', '{}', '0.1.0', now())"
    sink.cursor().execute(add, [shipped])
    assert take_inventory(sink.cursor()).other_tables == ()
    sink.cursor().execute(add, ["2020-01-01-00000000"])
    assert take_inventory(sink.cursor()).other_tables == ("factor_sets",)
