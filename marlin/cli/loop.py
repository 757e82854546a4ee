"""Running a command's coroutine: on uvloop, and with signals that stop it in good order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

__all__ = ["STOP_SIGNALS", "on_signals", "run_async", "unless"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a supervisor's request, a closed terminal."""

_Result = TypeVar("_Result")


def run_async(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `coroutine` to its end, on uvloop where it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


@contextlib.contextmanager
def on_signals(handle: Callable[[int], None]) -> Generator[None]:
    """Call `handle(n)` on the n-th stop signal, from 1, while the block runs."""
    loop = asyncio.get_running_loop()
    received = 0

    def count() -> None:
        nonlocal received
        received += 1
        handle(received)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, count)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work` to its end, or until `event` is set; whether it came to its end."""
    doing = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    return False
