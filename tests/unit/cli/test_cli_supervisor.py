"""A supervised child: real processes that become ready, crash, hang and stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from marlin.cli.supervisor import Supervised
from marlin.errors import StateError

READY = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()))\n"


class Child:
    """A supervised Python program, what it said, and its files."""

    def __init__(self, directory: Path, code: str) -> None:
        self.said: list[str] = []
        self.supervised = Supervised(
            "worker",
            [sys.executable, "-c", code, str(directory / "ready")],
            env={"MARLIN_TEST": "from the supervisor"},
            log=directory / "logs" / "worker.log",
            ready_file=directory / "ready",
            say=self.said.append,
        )


@asynccontextmanager
async def running(directory: Path, code: str) -> AsyncGenerator[Child]:
    child = Child(directory, code)
    try:
        await child.supervised.start(timeout_s=30)
        watching = asyncio.create_task(child.supervised.run())
        yield child
        watching.cancel()
    finally:
        await child.supervised.stop(grace_s=0)


async def eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.02)


def _content(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def test_a_child_is_started_when_it_says_that_it_is_ready(tmp_path: Path) -> None:
    (tmp_path / "ready").write_text("1")  # left by an earlier process
    async with running(tmp_path, READY + "time.sleep(60)") as child:
        assert (tmp_path / "ready").read_text() == str(child.supervised.pid)
        assert child.said == []


async def test_a_child_that_ends_before_it_is_ready_is_not_tried_again(tmp_path: Path) -> None:
    child = Child(tmp_path, "import sys; sys.exit('error: no such topic')")

    with pytest.raises(StateError, match=r"did not start \(exit code 1, .*: no such topic$"):
        await child.supervised.start(timeout_s=30)

    assert child.supervised.pid is None


async def test_a_child_that_never_becomes_ready_is_an_error(tmp_path: Path) -> None:
    child = Child(tmp_path, "import time; time.sleep(60)")
    try:
        with pytest.raises(StateError, match=r"not ready within 0\.2 s .*: it said nothing"):
            await child.supervised.start(timeout_s=0.2)
    finally:
        await child.supervised.stop(grace_s=0)


async def test_a_crashed_child_is_started_again_and_its_last_words_are_told(tmp_path: Path) -> None:
    once = (
        READY + "import pathlib\n"
        "first = pathlib.Path(sys.argv[1] + '.first')\n"
        "if first.exists(): time.sleep(60)\n"
        "first.touch(); print('noise', os.environ['MARLIN_TEST']); sys.exit('it broke')"
    )
    async with running(tmp_path, once) as child:
        await eventually(lambda: len(child.said) == 2)
        pid = child.supervised.pid
        await eventually(lambda: _content(tmp_path / "ready") == str(pid))

    ended, again = child.said
    assert ended == "the worker ended (exit code 1): it broke; starting it again in 0.5 s"
    assert again == f"the worker was started again (process {pid})"
    assert b"noise from the supervisor" in (tmp_path / "logs" / "worker.log").read_bytes()


async def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    async with running(tmp_path, READY + "time.sleep(60)") as child:
        before = child.supervised.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: len(child.said) == 2)

        assert child.said[0] == "the worker ended (killed by SIGKILL); starting it again in 0.5 s"
        assert child.supervised.pid not in (None, before)


async def test_stopping_asks_first_and_does_not_restart(tmp_path: Path) -> None:
    graceful = "import signal\nsignal.signal(15, lambda *_: sys.exit(7))\n" + READY
    async with running(tmp_path, "import sys\n" + graceful + "time.sleep(60)") as child:
        assert await child.supervised.stop(grace_s=30) == 7
        assert child.supervised.pid is None
        await asyncio.sleep(0)

    assert child.said == []


async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal\nsignal.signal(15, signal.SIG_IGN)\n" + READY
    async with running(tmp_path, stubborn + "time.sleep(60)") as child:
        assert await child.supervised.stop(grace_s=0.2) == -signal.SIGKILL


async def test_killing_ends_it_at_once_and_for_good(tmp_path: Path) -> None:
    async with running(tmp_path, READY + "time.sleep(60)") as child:
        child.supervised.kill()
        await eventually(lambda: child.supervised.pid is None)
        assert await child.supervised.stop(grace_s=1) == -signal.SIGKILL

    assert child.said == []


async def test_stopping_what_was_never_started_is_harmless(tmp_path: Path) -> None:
    assert await Child(tmp_path, "").supervised.stop(grace_s=1) == 0
