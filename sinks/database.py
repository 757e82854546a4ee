"""Opening a DuckDB file: one process may write, nothing outside of the file can be reached."""

from __future__ import annotations

import re
import time
from pathlib import Path

import duckdb

from marlin.errors import SinkError
from marlin.settings import SinkSettings

__all__ = ["DatabaseLockedError", "open_database"]

CHECKPOINT_THRESHOLD = "256MiB"
"""Log size at which DuckDB rewrites what changed. The default, 16 MiB, is reached by every other
batch under load, and each time rewrites all parts of `runs` that a batch has touched."""

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_external_access": False,
    # Else a query could read any variable of this process that looks like a table.
    "python_enable_replacements": False,
}
_LOCK_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_RETRY_S = 0.1
_DEFAULT_LIMITS = SinkSettings()


class DatabaseLockedError(SinkError):
    """Another process has the database open. It can be opened once that has closed it."""

    def __init__(self, path: Path, holder: str | None, pid: int | None) -> None:
        self.pid = pid
        """The process that holds it, if it is known."""
        who = f"process {pid} ({holder})" if pid else "another process"
        super().__init__(
            f"{path} is in use by {who}; DuckDB lets one process open a file for writing. "
            "Nothing was changed: stop that process, or set MARLIN_SINK__DATABASE to another file"
        )


def open_database(
    path: Path,
    *,
    read_only: bool = False,
    wait_s: float = 0.0,
    limits: SinkSettings = _DEFAULT_LIMITS,
) -> duckdb.DuckDBPyConnection:
    """Open `path` (made when missing, unless `read_only`), sandboxed, in UTC, settings locked.

    `limits` says how much memory, disk and processors DuckDB may use.
    A locked file is tried again for `wait_s`: a reader holds it only while its query runs.
    Raises `DatabaseLockedError`, or `SinkError` when it cannot be opened or is no DuckDB file.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return _open(path, read_only, limits)
        except DatabaseLockedError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)


def _open(path: Path, read_only: bool, limits: SinkSettings) -> duckdb.DuckDBPyConnection:
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(str(path), read_only=read_only, config=_CONFIG)
    except OSError as exc:
        raise SinkError(f"{path} cannot be made: {exc}; nothing was opened") from exc
    except duckdb.Error as exc:
        locked = _LOCK_HOLDER.search(str(exc))
        if locked:
            raise DatabaseLockedError(path, locked["program"], int(locked["pid"])) from exc
        if "Could not set lock" in str(exc):
            raise DatabaseLockedError(path, None, None) from exc
        raise SinkError(f"{path} cannot be opened as a DuckDB file: {exc}") from exc
    for name, value in (
        ("checkpoint_threshold", CHECKPOINT_THRESHOLD),
        ("max_temp_directory_size", f"{limits.temp_limit_bytes} B"),
        ("memory_limit", f"{limits.memory_limit_bytes} B"),
        ("threads", limits.threads),
        ("TimeZone", "UTC"),
    ):
        connection.execute(f"SET GLOBAL {name} = '{value}'")
    connection.execute("SET GLOBAL lock_configuration = true")
    return connection
