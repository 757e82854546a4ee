"""How a query finds the process that owns the database: a small file beside it."""

from __future__ import annotations

import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

__all__ = ["ServerAddress", "find_server", "publish_server", "server_file", "withdraw_server"]


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the owner of a database answers queries."""

    url: str
    token: str
    pid: int


def server_file(database: Path) -> Path:
    """The file that tells where the owner of `database` answers."""
    return database.with_name(database.name + ".server.json")


def publish_server(database: Path, url: str) -> ServerAddress:
    """Write the file, readable by this user only, with a token made for this process."""
    address = ServerAddress(url, secrets.token_urlsafe(32), os.getpid())
    target = server_file(database)
    # A new file under another name: the token is never in a file that others may read.
    made = target.with_name(f"{target.name}.{address.pid}")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps(asdict(address)))
    made.replace(target)
    return address


def withdraw_server(database: Path, address: ServerAddress) -> None:
    """Remove the file if it still tells this address."""
    if _load(server_file(database)) == address:
        server_file(database).unlink(missing_ok=True)


def find_server(database: Path) -> ServerAddress | None:
    """The owner of `database`, or None; a file left by a process that is gone is ignored."""
    address = _load(server_file(database))
    return address if address and _is_alive(address.pid) else None


def _load(file: Path) -> ServerAddress | None:
    try:
        fields = orjson.loads(file.read_bytes())
        return ServerAddress(str(fields["url"]), str(fields["token"]), int(fields["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
