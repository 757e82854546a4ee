"""Opening the file: who may, and what is in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from marlin.errors import SchemaTooNewError, SinkError
from marlin.settings import SinkSettings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.database import DatabaseLockedError, open_database
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.migrations import Migration, known_migrations, migrate, schema_version


@contextmanager
def held_by_another_process(path: Path, *, seconds: float = 600) -> Generator[int]:
    code = (
        "import duckdb, sys, time; held = duckdb.connect(sys.argv[1]); print('open', flush=True); "
        "time.sleep(float(sys.argv[2]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(seconds)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_locked_file_names_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "marlin.duckdb"
    DuckDBSink(path).close()
    with held_by_another_process(path) as pid:
        for read_only in (False, True):
            with pytest.raises(DatabaseLockedError, match=f"in use by process {pid} ") as refused:
                open_database(path, read_only=read_only)
            assert refused.value.pid == pid
    DuckDBSink(path).close()


def test_a_lock_that_is_given_up_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "marlin.duckdb"
    DuckDBSink(path).close()
    with held_by_another_process(path, seconds=0.5):
        DuckDBSink(path, wait_s=60).close()


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 1000)
    with pytest.raises(SinkError, match="cannot be opened as a DuckDB file"):
        DuckDBSink(path)
    assert path.read_text() == "dear diary " * 1000


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="nothing was opened"):
        DuckDBSink(tmp_path / "file" / "marlin.duckdb")


def test_a_file_of_a_newer_marlin_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "marlin.duckdb"
    newest = known_migrations()[-1].version
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(carbon(0)))
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "INSERT INTO schema_versions VALUES (?, 'later.sql', '99', now())", [newest + 1]
        )
    before = path.read_bytes()
    with pytest.raises(
        SchemaTooNewError, match=rf"schema version {newest + 1}, this Marlin \(.*\) knows {newest}"
    ):
        DuckDBSink(path)
    assert path.read_bytes() == before


def test_somebody_elses_database_keeps_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE runs AS SELECT 42 AS distance_km")
    with pytest.raises(SinkError, match="could not be prepared"):
        DuckDBSink(path)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("FROM runs").fetchall() == [(42,)]
        assert schema_version(connection) == 0


def test_migrations_count_up_from_one() -> None:
    assert [one.version for one in known_migrations()] == list(
        range(1, len(known_migrations()) + 1)
    )


def test_each_migration_is_applied_once_and_whole() -> None:
    first, *_ = known_migrations()
    second = Migration(
        2, "0002_more.sql", "CREATE TABLE more (a INTEGER); INSERT INTO more VALUES (1)"
    )
    broken = Migration(
        3, "0003_broken.sql", "CREATE TABLE broken (a INTEGER); SELECT * FROM nothing"
    )
    with duckdb.connect() as connection:
        assert migrate(connection, [first]) == [1]
        assert migrate(connection, [first, second]) == [2]
        with pytest.raises(duckdb.CatalogException):
            migrate(connection, [first, second, broken])
        assert migrate(connection, [first, second]) == []
        assert schema_version(connection) == 2
        assert connection.execute("FROM more").fetchall() == [(1,)]
        assert connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'broken'"
        ).fetchall() == [(0,)]


def test_a_log_left_by_a_crash_can_be_read_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "marlin.duckdb"
    code = (
        "import os, sys; from pathlib import Path; "
        "from marlin.sinks.conformance import batch_of, carbon, identity; "
        "from marlin.sinks.duckdb_sink import DuckDBSink; "
        "sink = DuckDBSink(Path(sys.argv[1])); sink.bind(identity()); "
        "sink.apply(batch_of(carbon(0))); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    log = path.with_name(path.name + ".wal")
    before = (path.read_bytes(), log.read_bytes())
    with open_database(path, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(1,)]
    assert (path.read_bytes(), log.read_bytes()) == before


def test_limits_reach_duckdb(tmp_path: Path) -> None:
    limits = SinkSettings(memory_limit_bytes=2**29, temp_limit_bytes=2**30, threads=3)
    for read_only in (False, True):
        path = tmp_path / "x.duckdb"
        with open_database(path, read_only=read_only, limits=limits) as connection:
            assert connection.execute(
                "SELECT current_setting('memory_limit'), "
                "current_setting('max_temp_directory_size'), current_setting('threads')"
            ).fetchall() == [("512.0 MiB", "1.0 GiB", 3)]


def test_settings_are_locked_and_the_clock_is_utc(tmp_path: Path) -> None:
    with open_database(tmp_path / "x.duckdb") as connection:
        assert connection.cursor().execute(
            "SELECT current_setting('TimeZone'), current_setting('lock_configuration'), "
            "current_setting('enable_external_access')"
        ).fetchall() == [("UTC", True, False)]
    assert os.listdir(tmp_path) == ["x.duckdb"]
