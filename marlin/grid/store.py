"""Fetched intensities on disk: one SQLite file, shared by the processes of a machine."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from marlin.errors import ConfigurationError, GridUnavailableError
from marlin.grid.provider import Basis, Estimate, GridValue, Signal

__all__ = ["GridStore", "Kind", "Stored"]

_log = logging.getLogger(__name__)

Kind = Literal["history", "forecast"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS intensities (
    provider TEXT NOT NULL,
    zone TEXT NOT NULL,
    kind TEXT NOT NULL,
    hour INTEGER NOT NULL,
    intensity_g_per_kwh REAL,
    basis TEXT,
    signal TEXT,
    estimate TEXT,
    fetched_at REAL NOT NULL,
    PRIMARY KEY (provider, zone, kind, hour)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS intensities_by_hour ON intensities (hour);
CREATE TABLE IF NOT EXISTS forecasts (
    provider TEXT NOT NULL,
    zone TEXT NOT NULL,
    until INTEGER NOT NULL,
    fetched_at REAL NOT NULL,
    PRIMARY KEY (provider, zone)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uncovered (
    provider TEXT NOT NULL,
    zone TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (provider, zone, kind)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """An hour that was asked for."""

    value: GridValue | None
    """None: the source did not have it."""
    fetched_at: datetime

    @property
    def final(self) -> bool:
        """Whether it need not be asked for again."""
        return self.value is not None and self.value.estimate == "measured"


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _told(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Errors of SQLite, such as a full disk, as Marlin's."""

    @wraps(method)
    def telling(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(*args, **kwargs)
        except sqlite3.Error as exc:
            raise GridUnavailableError(
                f"the kept grid intensities cannot be used ({exc}); tried again when next asked",
                provider="cache",
            ) from exc

    return telling


class GridStore:
    """Fetched hours, forecasts and uncovered zones by provider. Close it when done.

    A file that is no database is put aside and a new one begun: all of it can be fetched again.
    Raises ConfigurationError where the folder cannot be written, and GridUnavailableError where the
    file cannot be used later.
    """

    def __init__(self, folder: Path, *, max_hours: int) -> None:
        self._max_hours = max_hours
        path = folder / "intensities.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _opened(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as exc:
                _log.warning("%s is damaged (%s): begun anew", path, exc)
                path.replace(path.with_suffix(".damaged"))
                self._database = _opened(path)
        except (OSError, sqlite3.Error) as exc:
            raise ConfigurationError(
                f"grid intensities cannot be kept in {folder} ({exc}); set MARLIN_GRID__CACHE_DIR "
                "to a folder that can be written, nothing was fetched"
            ) from exc

    @_told
    def hours(
        self, provider: str, zone: str, kind: Kind, start: datetime, end: datetime
    ) -> dict[datetime, Stored]:
        """What is known of the hours from `start` (inclusive) to `end` (exclusive), in order."""
        found = self._database.execute(
            "SELECT hour, intensity_g_per_kwh, basis, signal, estimate, fetched_at "
            "FROM intensities WHERE provider = ? AND zone = ? AND kind = ? "
            "AND hour >= ? AND hour < ? ORDER BY hour",
            (provider, zone, kind, _seconds(start), _seconds(end)),
        )
        known: dict[datetime, Stored] = {}
        for hour_s, intensity, basis, signal, estimate, fetched_s in found:
            hour, fetched_at = _at(hour_s), _at(fetched_s)
            value = None
            if intensity is not None:
                value = GridValue(
                    zone, hour, intensity, basis, signal, estimate, provider, fetched_at
                )
            known[hour] = Stored(value, fetched_at)
        return known

    @_told
    def keep_hours(
        self,
        provider: str,
        zone: str,
        values: Iterable[GridValue],
        missing: Iterable[datetime],
        now: datetime,
    ) -> None:
        """Keep the history that was fetched, and which hours the source did not have.

        A measured hour stays as it is.
        """
        kept = [_row(value, "history") for value in values]
        none: list[_Row] = [
            (provider, zone, "history", _seconds(hour), None, None, None, None, now.timestamp())
            for hour in missing
        ]
        with self._database:
            self._write(kept)
            # An hour that was known stays known when the source loses it.
            self._database.executemany(
                f"INSERT INTO intensities VALUES ({_MARKS}) ON CONFLICT DO UPDATE "
                "SET fetched_at = excluded.fetched_at WHERE estimate IS NOT 'measured'",
                none,
            )
            self._trim()

    @_told
    def forecast_asked(self, provider: str, zone: str) -> tuple[datetime, datetime] | None:
        """Until when the last forecast was asked for, and when; None: never."""
        row = self._database.execute(
            "SELECT until, fetched_at FROM forecasts WHERE provider = ? AND zone = ?",
            (provider, zone),
        ).fetchone()
        return None if row is None else (_at(row[0]), _at(row[1]))

    @_told
    def keep_forecast(
        self, provider: str, zone: str, values: Iterable[GridValue], until: datetime, now: datetime
    ) -> None:
        """Keep a forecast instead of the one before."""
        with self._database:
            self._database.execute(
                "DELETE FROM intensities WHERE provider = ? AND zone = ? AND kind = 'forecast'",
                (provider, zone),
            )
            self._write([_row(value, "forecast") for value in values])
            self._database.execute(
                "INSERT OR REPLACE INTO forecasts VALUES (?, ?, ?, ?)",
                (provider, zone, _seconds(until), now.timestamp()),
            )
            self._trim()

    @_told
    def uncovered(self, provider: str, zone: str, kind: Kind, now: datetime) -> str | None:
        """Why the source does not have the zone; None where that is not known or too long ago."""
        row = self._database.execute(
            "SELECT message FROM uncovered "
            "WHERE provider = ? AND zone = ? AND kind = ? AND until > ?",
            (provider, zone, kind, now.timestamp()),
        ).fetchone()
        return None if row is None else str(row[0])

    @_told
    def keep_uncovered(
        self, provider: str, zone: str, kind: Kind, message: str, until: datetime
    ) -> None:
        """Remember that the source does not have the zone."""
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO uncovered VALUES (?, ?, ?, ?, ?)",
                (provider, zone, kind, message, until.timestamp()),
            )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _write(self, kept: list[_Row]) -> None:
        self._database.executemany(
            f"INSERT INTO intensities VALUES ({_MARKS}) ON CONFLICT DO UPDATE SET "
            "intensity_g_per_kwh = excluded.intensity_g_per_kwh, basis = excluded.basis, "
            "signal = excluded.signal, estimate = excluded.estimate, "
            "fetched_at = excluded.fetched_at WHERE estimate IS NOT 'measured'",
            kept,
        )

    def _trim(self) -> None:
        (count,) = self._database.execute("SELECT count(*) FROM intensities").fetchone()
        if count > self._max_hours:
            self._database.execute(
                "DELETE FROM intensities WHERE (provider, zone, kind, hour) IN "
                "(SELECT provider, zone, kind, hour FROM intensities ORDER BY hour LIMIT ?)",
                (count - self._max_hours,),
            )


_Row = tuple[str, str, Kind, int, float | None, Basis | None, Signal | None, Estimate | None, float]
_MARKS = ", ".join("?" * 9)


def _row(value: GridValue, kind: Kind) -> _Row:
    return (
        value.source,
        value.zone,
        kind,
        _seconds(value.hour),
        value.intensity_g_per_kwh,
        value.basis,
        value.signal,
        value.estimate,
        value.fetched_at.timestamp(),
    )


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=10)
    try:
        # Readers of other processes are not held up by a writer.
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
