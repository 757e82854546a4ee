"""Child processes that never outlive us and never see the terminal's Ctrl-C.

The supervisor decides the order in which things stop; a Ctrl-C that reached the broker first
would lose what the worker still had to write.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["spawn", "terminate"]

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    # Linux only: without it, a SIGKILL of the parent leaves a broker on its port and a sink
    # holding the database's lock.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def spawn(
    argv: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start `argv` in a session of its own; its output goes to `log` (appended) or nowhere."""
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **env} if env is not None else None,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


async def terminate(process: asyncio.subprocess.Process, *, grace_s: float) -> int:
    """Ask `process` to stop; kill it after `grace_s` [s]. Returns its exit code."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return await process.wait()
