"""Running the `marlin` command as a user does: processes, exit codes, what they print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marlin.settings import Settings

__all__ = ["COMMAND", "MarlinUp", "environment", "marlin", "marlin_json"]

COMMAND = (sys.executable, "-m", "marlin.cli")
_TIMEOUT_S = 120.0


def environment(settings: Settings) -> dict[str, str]:
    """The environment variables that give a process these settings."""
    found: dict[str, str] = {"MARLIN_HOME": str(settings.home)}
    for group in ("kafka", "worker", "sink"):
        for name, value in getattr(settings, group).model_dump(exclude_none=True).items():
            found[f"MARLIN_{group}__{name}".upper()] = str(value)
    return found


def marlin(
    *args: str | Path, env: Mapping[str, str], timeout_s: float = _TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def marlin_json(*args: str | Path, env: Mapping[str, str]) -> Any:
    """What a command prints with `--json`; fails when it does not end with 0."""
    done = marlin(*args, "--json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class MarlinUp:
    """A `marlin up` in a home of its own; with its embedded broker, unless `env` names another."""

    def __init__(self, home: Path, env: Mapping[str, str] | None = None) -> None:
        self.env = {**(env or {}), "MARLIN_HOME": str(home)}
        self.output = home / "up.out"
        home.mkdir(exist_ok=True)
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "up", "--no-browser"],
                env={**os.environ, **self.env},
                stdout=output,
                stderr=output,
            )
        deadline_s = time.monotonic() + _TIMEOUT_S
        while "Marlin is up" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline_s, self.said
            time.sleep(0.1)

    @property
    def said(self) -> str:
        """Everything it printed so far."""
        return self.output.read_text()

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query, by `marlin sql`."""
        rows: list[dict[str, Any]] = marlin_json("sql", sql, env=self.env)
        return rows

    def until(self, sql: str, expected: list[dict[str, Any]]) -> None:
        """Ask again and again until the answer is `expected`."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while (found := self.ask(sql)) != expected:
            assert time.monotonic() < deadline_s, f"{found} instead of {expected}"
            time.sleep(0.2)

    def interrupt(self, *, within_s: float = 60.0) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=within_s)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        self.process.kill()
        self.process.wait()
