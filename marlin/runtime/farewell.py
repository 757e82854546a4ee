"""The end of a run that has a pipeline: wait for its command, briefly, and for its events."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from marlin.runtime.run import Run
from marlin.runtime.uplink import Uplink

__all__ = ["Waits", "await_command"]

log = logging.getLogger("marlin.runtime")


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a run may wait for the pipeline; both bounds are reached only when it is away."""

    command_s: float = 2.0
    """For the command that a breach leads to [s]."""
    flush_s: float = 5.0
    """For events to reach Kafka at the run's end [s]."""


async def await_command(run: Run, uplink: Uplink, waits: Waits) -> None:
    """Give the pipeline a moment to see the breach that we see already.

    With its command's id the run can acknowledge; without one it ends all the same. Returns at
    once where no command is to come.
    """
    if not run.awaits_command or not await uplink.flush(waits.flush_s):
        return
    try:
        async with asyncio.timeout(waits.command_s):
            # Other commands, warnings for instance, may come first.
            while (command := run.next_command()) is not None:
                await asyncio.wrap_future(command)
    except TimeoutError:
        log.warning(
            "run %s is over its budget and no command came within %g s; is a worker running?",
            *(run.run_id, waits.command_s),
        )
