"""Keeping a child process running: started, awaited, restarted with back-off, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from marlin.broker.process import spawn, terminate
from marlin.errors import StateError

__all__ = ["Supervised"]

Say = Callable[[str], None]

_POLL_S = 0.05
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 10.0
_STEADY_S = 30.0
"""A child that ran so long before it crashed starts over with the shortest back-off."""

_TAIL_BYTES = 4096


class Supervised:
    """One child process that is restarted whenever it ends before it was asked to.

    The child tells that it is ready by writing its process id to `ready_file`. A child that ends
    before it was ready for the first time is not restarted: what it lacks will not come by
    waiting.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        ready_file: Path,
        say: Say,
    ) -> None:
        self.name = name
        self.log = log
        self._argv = argv
        self._env = env
        self._ready_file = ready_file
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._log_start = 0

    async def start(self, *, timeout_s: float) -> None:
        """Start the child and wait until it is ready.

        Raises `StateError`, with the end of its log, when it ends or is not ready in time.
        """
        await self._spawn()
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_ready()
        except TimeoutError as exc:
            raise StateError(
                f"the {self.name} was not ready within {timeout_s:g} s (log: {self.log}): "
                f"{self._last_words()}"
            ) from exc

    async def run(self) -> None:
        """Restart the child whenever it ends, until `stop`. Called once, after `start`."""
        backoff_s = _FIRST_BACKOFF_S
        while (process := self._process) is not None:
            started = time.monotonic()
            code = await process.wait()
            if self._stopping:
                return
            if time.monotonic() - started > _STEADY_S:
                backoff_s = _FIRST_BACKOFF_S
            # One that was killed had no last words: its log ends with something unrelated.
            words = f": {self._last_words()}" if code > 0 else ""
            again = f"starting it again in {backoff_s:g} s"
            self._say(f"the {self.name} ended ({_reason(code)}){words}; {again}")
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            if self._stopping:
                return
            await self._spawn()
            self._say(f"the {self.name} was started again (process {self.pid})")

    async def stop(self, *, grace_s: float) -> int:
        """Ask the child to stop, kill it after `grace_s` [s]; returns its exit code."""
        self._stopping = True
        return await terminate(self._process, grace_s=grace_s) if self._process else 0

    def kill(self) -> None:
        """End the child now."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def _spawn(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._process = await spawn(self._argv, log=self.log, env=self._env)

    async def _until_ready(self) -> None:
        while not self._is_ready():
            code = self._process.returncode if self._process else None
            if code is not None:
                raise StateError(
                    f"the {self.name} did not start ({_reason(code)}, log: {self.log}): "
                    f"{self._last_words()}"
                )
            await asyncio.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        # Also of a child that was ready and has ended since: `run` starts it again.
        try:
            return self._process is not None and self._ready_file.read_text() == str(
                self._process.pid
            )
        except FileNotFoundError:
            return False

    def _last_words(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_start, self.log.stat().st_size - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        return lines[-1].strip().removeprefix("error: ") if lines else "it said nothing"


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
