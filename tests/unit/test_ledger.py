"""The ledger as files: the same rows, each once, with and without a running owner."""

from __future__ import annotations

import asyncio
import fcntl
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from marlin.errors import ConfigurationError, QueryError, SinkError
from marlin.ledger import ExportedDay, TrimmedDay, export_parquet, trim
from marlin.settings import Settings, SinkSettings
from marlin.sinks import ledger_routes as routes
from marlin.sinks.conformance import NOON, batch_of, carbon, dead_letter, identity
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.sqlserver import SqlServer

MAY_1, MAY_2, MAY_3 = date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 3)
DAY_S = 86_400


@asynccontextmanager
async def owner(settings: Settings) -> AsyncGenerator[DuckDBSink]:
    """The sink's process, but for Kafka."""
    with DuckDBSink(settings.database_path) as sink:
        sink.bind(identity())
        served = routes.ledger_routes(sink.cursor)
        async with SqlServer(sink.path, sink.cursor, settings.sink, served):
            yield sink


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two days of two partitions, with what is hard to write, and a dead letter."""
    # Fewer rows than a query may give would be an export cut off.
    made = Settings(home=tmp_path / "home", sink=SinkSettings(query_max_rows=2))
    with DuckDBSink(made.database_path) as sink:
        sink.bind(identity())
        sink.apply(
            batch_of(
                carbon(0, labels={"a|b": '"\n'}, carbon_g=0.1 + 0.2),
                carbon(1, tenant=None, cost_usd=None, latency_s=None, quality=()),
                carbon(2, partition=1, time=NOON + timedelta(microseconds=1)),
                carbon(DAY_S, quality=("a", "b")),
                dead_letter(DAY_S + 1, at=0),
            )
        )
    return made


def exported(folder: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(
            f"SELECT * EXCLUDE day FROM read_parquet('{folder}/*/*.parquet', "
            "hive_partitioning = true) ORDER BY source_id, source_partition, source_offset"
        ).fetchall()


def ledger(settings: Settings) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(settings.database_path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(
            "FROM events ORDER BY source_id, source_partition, source_offset"
        ).fetchall()


async def run(settings: Settings, running: bool, action: Any, *records: Any) -> Any:
    """`action` on the file, or beside its owner, after further records came in."""
    async with owner(settings) as sink:
        if records:
            sink.apply(batch_of(*records))
        if running:
            return await asyncio.to_thread(action)
    return action()


@pytest.mark.parametrize("running", [False, True])
async def test_the_files_have_the_same_rows(
    settings: Settings, tmp_path: Path, running: bool
) -> None:
    out = tmp_path / "out"
    days = await run(settings, running, lambda: export_parquet(out, settings=settings))
    first = out / "day=2026-05-01" / "events-000001.parquet"
    second = out / "day=2026-05-02" / "events-000001.parquet"
    assert days == [ExportedDay(MAY_1, 3, first, 0), ExportedDay(MAY_2, 1, second, 0)]
    assert exported(out) == ledger(settings)
    assert len(exported(out)) == 4
    assert sorted(path.name for path in out.rglob("*.*")) == [
        *(".marlin-export.lock", first.name, second.name)
    ]
    with duckdb.connect() as connection:
        kinds = connection.execute(f"DESCRIBE FROM '{first}'").fetchall()
    assert ("event_time", "TIMESTAMP WITH TIME ZONE") in [kind[:2] for kind in kinds]


@pytest.mark.parametrize("running", [False, True])
async def test_exported_again_only_what_came_since_is_added(
    settings: Settings, tmp_path: Path, running: bool
) -> None:
    out = tmp_path / "out"

    def export() -> list[ExportedDay]:
        return export_parquet(out, settings=settings)

    await run(settings, running, export)
    kept = {path: path.read_bytes() for path in out.rglob("*.parquet")}
    again = await run(settings, running, export)
    assert [(one.rows, one.file) for one in again] == [(0, None), (0, None)]
    late = [carbon(DAY_S + 5, time=NOON), carbon(9, partition=1, time=NOON)]
    days = await run(settings, running, export, *late)
    assert [(one.day, one.rows, one.file) for one in days] == [
        (MAY_1, 2, out / "day=2026-05-01" / "events-000002.parquet"),
        (MAY_2, 0, None),
    ]
    assert exported(out) == ledger(settings)
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.parametrize("running", [False, True])
async def test_trimming_removes_what_is_in_the_files_and_nothing_else(
    settings: Settings, tmp_path: Path, running: bool
) -> None:
    out = tmp_path / "out"
    before = ledger(settings)
    export_parquet(out, settings=settings, last=MAY_1)
    late = carbon(DAY_S + 5, time=NOON)
    days = await run(
        settings, running, lambda: export_parquet(out, settings=settings, trim=True), late
    )
    assert [(one.rows, one.removed) for one in days] == [(1, 4), (1, 1)]
    assert ledger(settings) == []
    assert [row for row in exported(out) if row in before] == before
    assert len(exported(out)) == 5
    with duckdb.connect(str(settings.database_path)) as connection:
        assert connection.execute(
            "SELECT removed_from, day, row_count, reason, exported_to FROM ledger_removals "
            "ORDER BY day"
        ).fetchall() == [
            ("events", MAY_1, 4, "trim", str(out)),
            ("events", MAY_2, 1, "trim", str(out)),
        ]
        assert connection.execute("SELECT sum(calls) FROM daily").fetchall() == [(5,)]
    # What comes after that is neither lost nor overwrites a file.
    await run(
        settings,
        running,
        lambda: export_parquet(out, settings=settings, trim=True),
        carbon(DAY_S + 6, time=NOON),
    )
    assert len(exported(out)) == 6


def test_a_rebuilt_database_with_other_numbers_goes_on_in_the_same_folder(
    settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_parquet(out, settings=settings)
    other = Settings(home=tmp_path / "other")
    with DuckDBSink(other.database_path) as sink:
        sink.bind(identity("another-cluster"))
        sink.bind(identity())
        sink.apply(batch_of(carbon(0), carbon(1), carbon(7)))
    (day,) = export_parquet(out, settings=other)
    assert day.rows == 1


def test_days_from_first_to_last_are_inclusive(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert [one.day for one in export_parquet(out, settings=settings, first=MAY_2)] == [MAY_2]
    assert [one.day for one in export_parquet(out, settings=settings, last=MAY_1)] == [MAY_1]
    assert export_parquet(out, settings=settings, first=MAY_3) == []


def test_what_cannot_be_exported_is_said(settings: Settings, tmp_path: Path) -> None:
    out, today = tmp_path / "out", datetime.now(UTC).date()
    with pytest.raises(ConfigurationError, match="only days that are over"):
        export_parquet(out, settings=settings, last=today)
    with pytest.raises(ConfigurationError, match="2026-05-02 is after 2026-05-01"):
        export_parquet(out, settings=settings, first=MAY_2, last=MAY_1)
    with pytest.raises(ConfigurationError, match="cannot be exported to"):
        export_parquet(settings.database_path / "x", settings=settings)
    lake = Settings(home=tmp_path, sink=SinkSettings(lake_catalog="sqlite:x", lake_data_path="y"))
    with pytest.raises(ConfigurationError, match="as Parquet already"):
        export_parquet(out, settings=lake)
    with pytest.raises(QueryError, match="no database at"):
        trim(MAY_2, settings=Settings(home=tmp_path / "nowhere"))


def test_todays_rows_are_left_out(settings: Settings, tmp_path: Path) -> None:
    with DuckDBSink(settings.database_path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(carbon(DAY_S + 9, time=datetime.now(UTC))))
    assert sum(one.rows for one in export_parquet(tmp_path / "out", settings=settings)) == 4


def test_a_foreign_file_stops_the_export(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "day=2026-05-01"
    folder.mkdir(parents=True)
    for text in (b"", b"PAR1 no parquet"):
        (folder / "events-000001.parquet").write_bytes(text)
        with pytest.raises(SinkError, match="not a file of the ledger"):
            export_parquet(tmp_path / "out", settings=settings, trim=True)
    assert len(ledger(settings)) == 4


def test_one_export_at_a_time(settings: Settings, tmp_path: Path) -> None:
    with (tmp_path / ".marlin-export.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SinkError, match="another export"):
            export_parquet(tmp_path, settings=settings)


async def test_an_interrupted_answer_is_no_day(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner fails after the first rows: no file, and nothing is removed."""
    real = routes.read_rows

    def failing(connection: Any, wanted: Any) -> tuple[Any, Iterator[Any]]:
        schema, batches = real(connection, wanted)

        def some() -> Iterator[Any]:
            yield next(batches)
            raise SinkError("disk on fire")

        return schema, some()

    out = tmp_path / "out"
    monkeypatch.setattr(routes, "read_rows", failing)
    with pytest.raises(SinkError, match="did not answer to the end"):
        await run(settings, True, lambda: export_parquet(out, settings=settings, trim=True))
    assert list(out.rglob("events*")) == []
    assert len(ledger(settings)) == 4


async def test_hostile_requests_do_nothing(settings: Settings) -> None:
    import http.client
    from urllib.parse import urlsplit

    from marlin.sinks.discovery import find_server

    def ask(path: str, body: bytes, token: str | None = None) -> int:
        address = find_server(settings.database_path)
        assert address is not None
        at = urlsplit(address.url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
        connection.request(
            "POST", path, body, {"Authorization": f"Bearer {token or address.token}"}
        )
        status = connection.getresponse().status
        connection.close()
        return status

    async with owner(settings):
        for body in (b"", b"{}", b'{"day": "x; DROP TABLE events"}', b"[" * 10_000):
            for path in ("rows", "count", "remove"):
                assert await asyncio.to_thread(ask, f"/ledger/{path}", body) == 400
        order = b'{"removal_id":"x","table":"%b","begin":null,"end":"2027-01-01","reason":"trim"}'
        assert await asyncio.to_thread(ask, "/ledger/remove", order % b"runs") == 400
        assert await asyncio.to_thread(ask, "/ledger/remove", order % b"events", "wrong") == 401
    assert len(ledger(settings)) == 4


@pytest.mark.parametrize("running", [False, True])
async def test_trim_tells_first_and_then_removes(settings: Settings, running: bool) -> None:
    expected = [
        *(TrimmedDay("events", MAY_1, 3), TrimmedDay("dead_letters", MAY_1, 1)),
    ]
    seen: list[int] = []
    dry = await run(settings, running, lambda: trim(MAY_2, settings=settings, dry_run=True))
    assert dry == expected
    assert len(ledger(settings)) == 4
    done = await run(
        settings, running, lambda: trim(MAY_2, settings=settings, progress=seen.append)
    )
    assert done == expected
    assert seen == [3, 4]
    assert len(ledger(settings)) == 1


def test_the_sdk_does_not_import_it() -> None:
    code = "import sys, marlin, marlin.runtime; assert 'marlin.ledger' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
