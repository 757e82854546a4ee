"""Opening a lake: its extensions, its secrets, and nothing else that could be reached from it."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

import duckdb

from marlin.errors import SinkError
from marlin.settings import SinkSettings
from marlin.sinks.lake.extensions import load_extension
from marlin.sinks.lake.location import LakeLocation, lake_location

__all__ = ["LAKE", "lake_cursor", "open_lake"]

LAKE = "lake"
"""Name of the attached database."""

INLINED_ROWS = 500
"""Insertions of up to so many rows go into the catalogue; larger ones become Parquet files. Else a
quiet pipeline would make some files of a few rows each second."""

_BUSY_TIMEOUT_MS = 10_000
_BEING_MADE = re.compile("already exists|duplicate key|database is locked", re.IGNORECASE)
_MAKING_WAIT_S = 10.0
_RETRY_S = 0.1
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # Not `allow_persistent_secrets`: without a storage for them the catalogue cannot be attached.
    "secret_directory": str(Path(os.devnull, "none")),
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


def open_lake(settings: SinkSettings, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Attach the lake of these settings, in UTC, as the current database of the connection.

    Any number of processes may have it open, for reading and for writing. From the connection
    only the lake's own files can be reached, and no setting can be changed. The lake is made when
    missing, unless `read_only`. Raises `ConfigurationError` when a setting or an extension is
    missing, `SinkError` when the catalogue or the store refuses.
    """
    location = lake_location(settings)
    connection = duckdb.connect(":memory:", config=_CONFIG)
    try:
        _prepare(connection, location, settings)
        _attach(connection, location, read_only)
        _lock(connection, location)
        return connection
    except (duckdb.Error, OSError) as exc:
        connection.close()
        # The cause would show what the message hides.
        hint = "; `marlin sink` makes one that is not there yet" if read_only else ""
        raise SinkError(
            f"the lake at {location} cannot be opened: {location.without_password(str(exc))}{hint}"
        ) from (None if location.password else exc)
    except BaseException:
        connection.close()
        raise


def lake_cursor(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A connection of its own on the same lake."""
    cursor = connection.cursor()
    cursor.execute(f"USE {LAKE}")  # the current database is not inherited
    return cursor


def _prepare(
    connection: duckdb.DuckDBPyConnection, location: LakeLocation, settings: SinkSettings
) -> None:
    load_extension(connection, "ducklake")
    load_extension(connection, f"{location.kind}_scanner")
    if location.password:
        connection.execute(f"CREATE SECRET (TYPE postgres, PASSWORD {_text(location.password)})")
    if location.is_on_s3:
        load_extension(connection, "httpfs")
        connection.execute(_s3_secret(location, settings))
    for name, value in (
        ("max_temp_directory_size", f"{settings.temp_limit_bytes} B"),
        ("memory_limit", f"{settings.memory_limit_bytes} B"),
        ("temp_directory", str(Path(tempfile.gettempdir(), f"marlin-lake-{os.getpid()}"))),
        ("threads", str(settings.threads)),
        ("TimeZone", "UTC"),
    ):
        connection.execute(f"SET GLOBAL {name} = {_text(value)}")


def _s3_secret(location: LakeLocation, settings: SinkSettings) -> str:
    options = [f"SCOPE {_text(location.data_path)}", f"REGION {_text(settings.s3_region)}"]
    if settings.s3_access_key_id and settings.s3_secret_access_key:
        key = settings.s3_secret_access_key.get_secret_value()
        options += [f"KEY_ID {_text(settings.s3_access_key_id)}", f"SECRET {_text(key)}"]
    if settings.s3_endpoint:
        options += [f"ENDPOINT {_text(settings.s3_endpoint)}", "URL_STYLE 'path'"]
        options.append(f"USE_SSL {str(settings.s3_use_ssl).lower()}")
    return f"CREATE SECRET (TYPE s3, {', '.join(options)})"


def _attach(connection: duckdb.DuckDBPyConnection, location: LakeLocation, read_only: bool) -> None:
    options = [
        f"DATA_PATH {_text(location.data_path)}",
        f"DATA_INLINING_ROW_LIMIT {INLINED_ROWS}",
    ]
    if location.kind == "sqlite":
        # Readers and a writer do not block each other.
        options += [f"META_BUSY_TIMEOUT {_BUSY_TIMEOUT_MS}", "META_JOURNAL_MODE 'WAL'"]
    if read_only:
        options += ["READ_ONLY", "CREATE_IF_NOT_EXISTS false"]
    else:
        if location.kind == "sqlite":
            Path(location.catalog).parent.mkdir(parents=True, exist_ok=True)
        if not location.is_on_s3:
            Path(location.data_path).mkdir(parents=True, exist_ok=True)
    target = _text(f"ducklake:{location.kind}:{location.catalog}")
    give_up_s = time.monotonic() + _MAKING_WAIT_S
    while True:
        try:
            connection.execute(f"ATTACH {target} AS {LAKE} ({', '.join(options)})")
            break
        except duckdb.Error as exc:
            # Of two processes that make the catalogue at once, one finds half of it there.
            if not _BEING_MADE.search(str(exc)) or time.monotonic() > give_up_s:
                raise
        time.sleep(_RETRY_S)
    connection.execute(f"USE {LAKE}")


def _lock(connection: duckdb.DuckDBPyConnection, location: LakeLocation) -> None:
    connection.execute(f"SET GLOBAL allowed_directories = [{_text(location.data_path)}]")
    connection.execute("SET GLOBAL enable_external_access = false")
    connection.execute("SET GLOBAL lock_configuration = true")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
