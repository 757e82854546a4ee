"""Where a running `marlin up` can be found: one small file in `MARLIN_HOME`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from pydantic import BaseModel, ValidationError

__all__ = ["Running", "announced", "find_running"]

_FILE = "up.json"


class Running(BaseModel):
    """A running `marlin up` with its embedded broker."""

    pid: int
    bootstrap_servers: str


@contextlib.contextmanager
def announced(home: Path, bootstrap_servers: str) -> Generator[None]:
    """Tell other processes of this machine about our embedded broker, while the block runs."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / _FILE
    partial = path.with_suffix(f".{os.getpid()}")
    running = Running(pid=os.getpid(), bootstrap_servers=bootstrap_servers)
    partial.write_text(running.model_dump_json())
    partial.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(home: Path) -> Running | None:
    """The `marlin up` that runs on this machine, or None. A file left by a crash is ignored."""
    try:
        running = Running.model_validate_json((home / _FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    try:
        os.kill(running.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # alive, of another user
    return running
