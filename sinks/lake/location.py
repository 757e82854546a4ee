"""Where a lake is: its catalogue, its files, and what opens both."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from marlin.errors import ConfigurationError
from marlin.settings import SinkSettings

__all__ = ["LakeLocation", "lake_location"]

_PASSWORD = re.compile(r"\bpassword\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))\s*")
_EXPECTED = (
    "expected MARLIN_SINK__LAKE_CATALOG as sqlite:/path/catalog.sqlite or "
    "postgres:dbname=… host=… (or postgres:postgresql://…)"
)


@dataclass(frozen=True, slots=True)
class LakeLocation:
    """A lake's two places. Its text and `repr` tell no password."""

    kind: Literal["sqlite", "postgres"]
    catalog: str
    """Path of the SQLite file, or libpq's `name=value` pairs without the password."""
    data_path: str
    """A folder or `s3://bucket/prefix`, with a slash at its end."""
    password: str | None = field(default=None, repr=False)

    @property
    def is_on_s3(self) -> bool:
        """Whether the files are in an object store."""
        return self.data_path.startswith("s3://")

    def __str__(self) -> str:
        return f"{self.kind}:{self.catalog}, {self.data_path}"

    def without_password(self, message: str) -> str:
        """`message` as it may be shown."""
        return message.replace(self.password, "…") if self.password else message


def lake_location(settings: SinkSettings) -> LakeLocation:
    """The lake of these settings.

    Raises `ConfigurationError` when the catalogue is of no known kind or a path is missing.
    """
    kind, _, place = (settings.lake_catalog or "").partition(":")
    if not place or kind not in ("sqlite", "postgres"):
        raise ConfigurationError(f"{_EXPECTED}, found kind {kind!r}; nothing was opened")
    if not settings.lake_data_path:
        raise ConfigurationError(
            "expected MARLIN_SINK__LAKE_DATA_PATH, a folder or s3://bucket/prefix, beside "
            "MARLIN_SINK__LAKE_CATALOG; nothing was opened"
        )
    data_path = _data_path(settings.lake_data_path)
    if kind == "sqlite":
        return LakeLocation("sqlite", str(Path(place).expanduser().absolute()), data_path)
    pairs = _pairs_of(place) if "://" in place else place
    found = _PASSWORD.search(pairs)
    password = (found[1] or found[2]) if found else None
    if found and found[1]:
        password = re.sub(r"\\(.)", r"\1", found[1])
    return LakeLocation("postgres", _PASSWORD.sub("", pairs).strip(), data_path, password)


def _data_path(told: str) -> str:
    if "://" not in told:
        return str(Path(told).expanduser().absolute()).rstrip("/") + "/"
    if not told.startswith("s3://"):
        raise ConfigurationError(
            f"expected MARLIN_SINK__LAKE_DATA_PATH as a folder or s3://bucket/prefix, found "
            f"{told!r}; nothing was opened"
        )
    return told.rstrip("/") + "/"


def _pairs_of(uri: str) -> str:
    """A connection URI as libpq's `name=value` pairs: a secret can be given only to those."""
    parts = urlsplit(uri)
    pairs = {
        "host": parts.hostname,
        "port": str(parts.port) if parts.port else None,
        "user": parts.username,
        "password": parts.password,
        "dbname": parts.path.lstrip("/") or None,
        **dict(parse_qsl(parts.query)),
    }
    return " ".join(f"{name}={_quoted(unquote(value))}" for name, value in pairs.items() if value)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
