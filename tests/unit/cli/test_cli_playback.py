"""Playing traces back, into a sender that only remembers."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from marlin.cli.playback import Playback, open_sources
from marlin.cli.sending import Sender
from marlin.errors import ConfigurationError, DataError
from marlin.replay import Message, Spread
from marlin.schemas import EVENT, RunFinished

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
STARTED = '{"type":"run.started","run_id":"mine","time":"2023-11-16T12:00:00Z"}\n'


class Remembering:
    """Takes every message; its batches are full after each third one."""

    def __init__(self, stop: asyncio.Event | None = None, stop_after: int = 0) -> None:
        self.messages: list[Message] = []
        self.rooms = self.pushes = self.flushes = 0
        self._stop = stop
        self._stop_after = stop_after

    def add(self, message: Message) -> bool:
        self.messages.append(message)
        if self._stop is not None and len(self.messages) == self._stop_after:
            self._stop.set()
        return len(self.messages) % 3 != 0

    async def make_room(self) -> None:
        self.rooms += 1

    async def push(self) -> None:
        self.pushes += 1

    async def flush(self, *, timeout_s: float | None = None) -> None:
        self.flushes += 1


def spread() -> Spread:
    return Spread("replay-1", model="m", provider="", region="fr", runs=2, agents=1)


def rows(*seconds: int) -> str:
    return "".join(f"2023-11-16 12:00:{second:02},{second},1\n" for second in seconds)


async def play(
    playback: Playback,
    sender: Remembering,
    *,
    speed: float | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    await playback.play(
        cast(Sender, sender), speed=speed, stop=stop or asyncio.Event(), progress=lambda: None
    )


def write(directory: Path, **contents: str) -> list[Path]:
    paths = [directory / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_text(content)
    return paths


async def test_files_are_played_in_order_and_bad_lines_left_out(tmp_path: Path) -> None:
    paths = write(tmp_path, a=HEADER + rows(1) + "bad\n" + rows(2), b=STARTED, c=HEADER + rows(3))
    sender = Remembering()
    with ExitStack() as stack:
        playback = Playback(open_sources(paths, stack), spread(), limit=None)
        await play(playback, sender)

    tokens = [message.tokens for message in sender.messages if message.tokens]
    assert tokens == [(1, 0, 0, 1), (2, 0, 0, 1), (3, 0, 0, 1)]
    assert [message.run_id for message in sender.messages] == [
        *("replay-1-1", "replay-1-1", "replay-1-2", "replay-1-2", "mine", "replay-1-1"),
        *("replay-1-1", "replay-1-2"),  # their ends
    ]
    assert (playback.rows, playback.runs) == (4, 3)
    assert playback.read_bytes == sum(path.stat().st_size for path in paths)
    assert playback.bad_lines.count == 1
    assert [(path.name, line.line) for path, line in playback.bad_lines.first] == [("a", 3)]
    assert (sender.rooms, sender.flushes) == (2, 1)


async def test_the_limit_ends_it_like_the_end_of_the_files(tmp_path: Path) -> None:
    paths = write(tmp_path, a=HEADER + rows(1, 2, 3))
    sender = Remembering()
    with ExitStack() as stack:
        playback = Playback(open_sources(paths, stack), spread(), limit=2)
        await play(playback, sender)

    assert playback.rows == 2
    ends = [EVENT.validate_json(message.value) for message in sender.messages[-2:]]
    assert [end.status for end in ends if isinstance(end, RunFinished)] == ["completed"] * 2


async def test_only_the_first_bad_lines_are_kept(tmp_path: Path) -> None:
    paths = write(tmp_path, a=HEADER + "bad\n" * 1000)
    with ExitStack() as stack:
        playback = Playback(open_sources(paths, stack), spread(), limit=None)
        await play(playback, Remembering())

    assert playback.bad_lines.count == 1000
    assert [line.line for _, line in playback.bad_lines.first] == list(range(2, 12))


@pytest.mark.parametrize("speed", [None, 1e9])
async def test_a_stop_reads_no_further_and_ends_the_runs_as_failed(
    tmp_path: Path, speed: float | None
) -> None:
    paths = write(tmp_path, a=HEADER + rows(1, 2, 3))
    stop = asyncio.Event()
    sender = Remembering(stop, stop_after=2)
    with ExitStack() as stack:
        await play(
            Playback(open_sources(paths, stack), spread(), limit=None),
            sender,
            speed=speed,
            stop=stop,
        )

    *_, usage, end = sender.messages
    assert usage.tokens == (1, 0, 0, 1)
    assert EVENT.validate_json(end.value) == RunFinished(
        run_id="replay-1-1",
        time=usage.time,
        status="failed",
        reason="the replay was interrupted",
    )
    assert sender.flushes == 1


async def test_at_its_pace_what_is_due_leaves_before_the_wait(tmp_path: Path) -> None:
    """59 seconds of trace at a pace that makes them a moment: one wait, one push."""
    paths = write(tmp_path, a=HEADER + rows(0, 0, 59, 58))
    sender = Remembering()
    with ExitStack() as stack:
        playback = Playback(open_sources(paths, stack), spread(), limit=None)
        await play(playback, sender, speed=500)

    assert sender.pushes == 1
    assert playback.rows == 4


async def test_a_stop_ends_the_wait_for_the_next_row(tmp_path: Path) -> None:
    paths = write(tmp_path, a=HEADER + rows(0, 59))
    stop = asyncio.Event()
    sender = Remembering(stop, stop_after=2)
    with ExitStack() as stack:
        playback = Playback(open_sources(paths, stack), spread(), limit=None)
        # Without the stop, this would take two years.
        await play(playback, sender, speed=1e-6, stop=stop)

    assert [message.tokens for message in sender.messages if message.tokens] == [(0, 0, 0, 1)]


def test_rows_need_a_model_and_a_region(tmp_path: Path) -> None:
    paths = write(tmp_path, a=HEADER)
    with ExitStack() as stack, pytest.raises(ConfigurationError, match="a model and a region"):
        Playback(open_sources(paths, stack), None, limit=None)


def test_a_file_that_vanished_is_an_error_of_ours(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(DataError, match="cannot be read"):
        open_sources([tmp_path / "gone.csv"], stack)
