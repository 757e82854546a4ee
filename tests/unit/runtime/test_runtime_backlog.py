"""The order of what is sent, the bounds of what is kept, and the disk in between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_doubles import Emitted

from marlin.runtime.backlog import CHUNK_EVENTS, LARGEST_EVENT_BYTES, Backlog
from marlin.runtime.spill import Record, SpillFile

MIB = 1024 * 1024


def numbers(some: list[Record]) -> list[int]:
    return [int(record.value) for record in some]


def opener(folder: Path, *, max_bytes: int = MIB) -> Callable[[], SpillFile]:
    return lambda: SpillFile.create(folder / "own.spill", max_bytes=max_bytes)


def add(backlog: Backlog, *values: int) -> None:
    for value in values:
        backlog.add(Emitted("run-1", b"%d" % value))


def deliver(backlog: Backlog) -> list[int]:
    """All that is to be had, each chunk delivered."""
    found: list[int] = []
    while chunk := backlog.take():
        found += numbers(chunk)
        backlog.settle([])
    return found


def test_events_go_out_as_they_came_in_and_no_file_is_made_without_need(tmp_path: Path) -> None:
    backlog = Backlog(10_000, opener(tmp_path))
    add(backlog, *range(2500))

    assert [len(backlog.take()), len(backlog.take())] == [CHUNK_EVENTS, CHUNK_EVENTS]
    assert deliver(backlog) == list(range(2500))
    backlog.secure()
    backlog.close()
    assert (backlog.accepted, backlog.settled) == (2500, 2500)
    assert list(tmp_path.iterdir()) == []


def test_what_is_under_way_comes_before_what_is_on_disk_and_that_before_memory(
    tmp_path: Path,
) -> None:
    backlog = Backlog(10_000, opener(tmp_path))
    add(backlog, 0, 1)
    assert numbers(backlog.take()) == [0, 1]
    add(backlog, 2, 3)
    backlog.secure()
    add(backlog, 4)

    assert backlog.spilled == 4
    backlog.settle(backlog.take())
    assert deliver(backlog) == [0, 1, 2, 3, 4]
    assert backlog.spilled == 0


def test_a_chunk_delivered_after_it_was_written_is_not_sent_again(tmp_path: Path) -> None:
    backlog = Backlog(10_000, opener(tmp_path))
    add(backlog, 0, 1)
    backlog.take()
    add(backlog, 2)
    backlog.secure()

    backlog.settle([])

    assert deliver(backlog) == [2]


def test_a_chunk_that_failed_in_part_is_kept_in_part_until_it_is_delivered(
    tmp_path: Path,
) -> None:
    backlog = Backlog(10_000, opener(tmp_path))
    add(backlog, 0, 1, 2)
    chunk = backlog.take()
    backlog.settle(chunk[1:])
    backlog.secure()
    add(backlog, 3)

    assert (backlog.settled, backlog.spilled) == (1, 2)
    assert deliver(backlog) == [1, 2, 3]
    assert backlog.settled == backlog.accepted == 4


def test_the_next_process_finds_what_was_under_way_and_what_waited(tmp_path: Path) -> None:
    backlog = Backlog(10_000, opener(tmp_path))
    add(backlog, 0, 1)
    backlog.take()
    add(backlog, 2, 3)
    backlog.close()

    heir = SpillFile.adopt(tmp_path / "own.spill")

    assert heir is not None
    assert numbers(heir.read(10)[0]) == [0, 1, 2, 3]
    heir.close()


def test_beyond_memory_and_disk_the_newest_are_refused_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = Backlog(10, opener(tmp_path, max_bytes=500))
    with caplog.at_level(logging.WARNING, "marlin.runtime"):
        for first in range(0, 100, 5):
            add(backlog, *range(first, first + 5))
            backlog.secure()

    kept = backlog.accepted
    assert backlog.refused == 100 - kept > 0
    assert backlog.spilled == kept - 10
    assert deliver(backlog) == list(range(kept))
    assert len([text for text in caplog.messages if "is full" in text]) == 1
    assert len([text for text in caplog.messages if "are dropped" in text]) == 1

    # There is room again.
    add(backlog, 100)
    backlog.secure()
    assert backlog.spilled == 1


def test_a_file_too_small_for_what_is_under_way_leaves_all_in_memory(tmp_path: Path) -> None:
    backlog = Backlog(10_000, opener(tmp_path, max_bytes=100))
    add(backlog, *range(50))
    backlog.take()
    add(backlog, 50)

    backlog.secure()

    assert backlog.spilled == 0
    assert deliver(backlog) == list(range(51))


def test_lifecycle_events_have_room_that_usage_cannot_take() -> None:
    backlog = Backlog(3, None)
    for _ in range(10):
        backlog.add(Emitted("run-1", b"0"))
    assert (backlog.accepted, backlog.refused) == (3, 7)
    for _ in range(10):
        backlog.add(Emitted("run-1", b"0", is_usage=False))

    assert (backlog.accepted, backlog.refused) == (6, 14)


def test_without_a_file_everything_waits_in_memory() -> None:
    backlog = Backlog(100, None)
    add(backlog, 0, 1)

    backlog.secure()

    assert backlog.spilled == 0
    assert deliver(backlog) == [0, 1]
    backlog.close()


def test_a_folder_that_cannot_be_made_is_said_once_and_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = Backlog(100, opener(tmp_path / "missing"))
    with caplog.at_level(logging.WARNING, "marlin.runtime"):
        for value in range(3):
            add(backlog, value)
            backlog.secure()

    assert len(caplog.messages) == 1
    assert "cannot be written to disk" in caplog.text
    assert deliver(backlog) == [0, 1, 2]


def test_a_full_disk_costs_nothing_while_there_is_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog = Backlog(100, opener(tmp_path))
    add(backlog, 0, 1)
    backlog.secure()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        add(backlog, 2, 3)
        backlog.secure()
    assert backlog.spilled == 2
    add(backlog, 4)
    backlog.secure()

    assert backlog.spilled == 5
    assert deliver(backlog) == [0, 1, 2, 3, 4]


def test_a_damaged_disk_loses_what_was_there_and_says_how_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = Backlog(100, opener(tmp_path))
    add(backlog, 0, 1, 2)
    backlog.secure()
    path = tmp_path / "own.spill"
    path.write_bytes(path.read_bytes()[:16] + b"\xff" * 100)
    add(backlog, 3)

    assert deliver(backlog) == [3]
    assert backlog.lost == 3
    assert backlog.settled == backlog.accepted == 4
    assert "3 events on disk cannot be read and are lost" in caplog.text


@pytest.mark.parametrize(
    "bad",
    [
        Emitted("\ud800", b"0"),
        Emitted("run-1", b"x" * (LARGEST_EVENT_BYTES + 1)),
        Emitted("run-1", error=ValueError("no")),
    ],
    ids=["key", "size", "encode"],
)
def test_an_event_that_cannot_be_sent_is_lost_alone(
    bad: Emitted, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = Backlog(100, None)
    add(backlog, 0)
    backlog.add(bad)
    add(backlog, 1)

    assert deliver(backlog) == [0, 1]
    assert (backlog.lost, backlog.settled) == (1, 3)
    assert "cannot be sent and is lost" in caplog.text


def test_whoever_sleeps_is_woken_once_by_the_next_event() -> None:
    backlog, woken = Backlog(100, None), list[int]()

    assert backlog.wake_by(lambda: woken.append(1))
    add(backlog, 0, 1, 2)

    assert woken == [1]
    assert not backlog.wake_by(None)


@given(st.lists(st.sampled_from(["add", "take", "fail", "deliver", "secure"]), max_size=60))
def test_whatever_happens_nothing_is_missing_and_the_order_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    backlog = Backlog(10_000, opener(tmp_path_factory.mktemp("spill"), max_bytes=400))
    added, delivered = 0, list[int]()
    for step in steps:
        if step == "add":
            add(backlog, *range(added, added + 3))
            added += 3
        elif step == "take":
            backlog.take()
        elif step == "secure":
            backlog.secure()
        elif chunk := backlog.take():
            kept = chunk[len(chunk) // 2 :] if step == "fail" else []
            delivered += numbers(chunk[: len(chunk) - len(kept)])
            backlog.settle(kept)

    delivered += deliver(backlog)

    assert delivered == list(range(added))
    assert backlog.settled == backlog.accepted == added
