"""Spill files: what goes in comes out, whoever died when, and nobody reads another's."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.runtime.spill import Record, SpillFile, SpillFolder
from marlin.settings import KafkaSettings, RuntimeSettings, Settings

MIB = 1024 * 1024


def records(count: int, start: int = 0) -> list[Record]:
    return [Record(b"run-1", b"value %d" % number) for number in range(start, start + count)]


def new_file(folder: Path, *, max_bytes: int = MIB, name: str = "a.spill") -> SpillFile:
    return SpillFile.create(folder / name, max_bytes=max_bytes)


def left_behind(folder: Path, some: list[Record], name: str = "a.spill") -> Path:
    """What a process that was killed leaves."""
    file = new_file(folder, name=name)
    assert file.append(some) == len(some)
    file.abandon()
    return file.path


def adopted(path: Path) -> SpillFile:
    file = SpillFile.adopt(path)
    assert file is not None
    return file


def drain(file: SpillFile, limit: int = 1000) -> list[Record]:
    found: list[Record] = []
    while True:
        some, end = file.read(limit)
        if not some:
            return found
        found += some
        file.advance(end, len(some))


def settings_for(home: Path, *, servers: str | None = None, prefix: str = "") -> Settings:
    return Settings(home=home, kafka=KafkaSettings(bootstrap_servers=servers, topic_prefix=prefix))


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=3000))), st.integers(1, 7))
def test_records_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[bytes, bytes]], limit: int
) -> None:
    expected = [Record(*pair) for pair in pairs]
    file = new_file(tmp_path_factory.mktemp("spill"))

    assert file.append(expected) == len(expected)

    assert file.pending == len(expected)
    assert drain(file, limit) == expected
    assert file.pending == 0
    file.close()


def test_records_beyond_one_read_come_out_whole(tmp_path: Path) -> None:
    big = [Record(b"run-1", bytes([number]) * 300_000) for number in range(9)]
    file = new_file(tmp_path, max_bytes=4 * MIB)
    file.append(big)

    assert drain(file) == big
    file.close()


def test_what_has_no_room_stays_out_and_all_that_was_taken_is_there(tmp_path: Path) -> None:
    file = new_file(tmp_path, max_bytes=1000)

    taken = file.append(records(100))

    assert 0 < taken < 100
    assert file.path.stat().st_size <= 1000
    assert file.has_room_for(records(100)) is False
    assert drain(file) == records(taken)
    assert file.append(records(1)) == 1
    file.close()


def test_a_drained_file_is_empty_and_goes_when_it_is_closed(tmp_path: Path) -> None:
    file = new_file(tmp_path)
    file.append(records(100))
    drain(file)
    size = file.path.stat().st_size
    file.close()

    assert size == 16
    assert list(tmp_path.iterdir()) == []


def test_the_next_process_goes_on_after_what_was_noted_as_sent(tmp_path: Path) -> None:
    file = new_file(tmp_path)
    file.append(records(10))
    _, end = file.read(4)
    file.advance(end, 4)
    file.abandon()

    heir = adopted(file.path)

    assert drain(heir) == records(6, start=4)
    heir.close()
    assert not file.path.exists()


def test_nobody_takes_the_file_of_a_process_that_lives(tmp_path: Path) -> None:
    file = new_file(tmp_path)
    file.append(records(1))

    assert SpillFile.adopt(file.path) is None
    file.close()
    heir = adopted(file.path)
    assert SpillFile.adopt(file.path) is None
    drain(heir)
    heir.close()
    assert SpillFile.adopt(file.path) is None


def test_a_file_that_is_removed_while_it_is_waited_for_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two heirs open the same file; the second gets the lock when the first has sent it all."""
    path = left_behind(tmp_path, records(3))
    real = fcntl.flock

    def first_heir_is_faster(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        first = adopted(path)
        drain(first)
        first.close()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", first_heir_is_faster)

    assert SpillFile.adopt(path) is None


@pytest.mark.parametrize("missing", [1, 7, 8, 9, 20])
def test_a_torn_end_is_ignored_the_rest_is_whole(tmp_path: Path, missing: int) -> None:
    path = left_behind(tmp_path, [*records(3), Record(b"run-1", b"the last one")])
    os.truncate(path, path.stat().st_size - missing)

    heir = adopted(path)

    assert drain(heir) == records(3)
    assert heir.damaged
    heir.close()


@pytest.mark.parametrize("content", [b"", b"MRL", b"MRLSPIL1", b"something else, and long enough"])
def test_what_is_no_spill_file_gives_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.spill"
    path.write_bytes(content)

    heir = adopted(path)

    assert drain(heir) == []
    heir.close()


def test_a_position_that_cannot_be_means_from_the_start(tmp_path: Path) -> None:
    path = left_behind(tmp_path, records(3))
    with path.open("r+b") as file:
        file.seek(8)
        file.write((10_000).to_bytes(8, "little"))

    heir = adopted(path)

    assert drain(heir) == records(3)
    heir.close()


@given(st.data())
def test_a_flipped_byte_never_gives_a_record_that_was_not_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = left_behind(tmp_path_factory.mktemp("spill"), records(5))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(16, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)

    heir = adopted(path)
    found = drain(heir)

    assert found == records(len(found))
    assert len(found) < 5
    heir.close()


def test_a_full_disk_half_way_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = new_file(tmp_path)
    file.append(records(3))
    write, calls = os.pwrite, list[int]()

    def half_then_none(fd: int, data: bytes, at: int) -> int:
        calls.append(at)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: len(data) // 2], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half_then_none)
        with pytest.raises(OSError, match="No space"):
            file.append(records(5, start=3))

    assert len(calls) == 2
    assert file.append(records(1, start=3)) == 1
    assert drain(file) == records(4)
    file.close()


def test_only_files_of_the_same_destination_are_leftovers(tmp_path: Path) -> None:
    here = SpillFolder(settings_for(tmp_path))
    others = [settings_for(tmp_path, servers="a:1"), settings_for(tmp_path, prefix="x.")]
    for folder in (here, *map(SpillFolder, others)):
        file = folder.create()
        file.append(records(1))
        file.abandon()

    found = list(SpillFolder(settings_for(tmp_path)).leftovers())

    assert len(list((tmp_path / "spill").iterdir())) == 3
    assert [drain(file) for file in found] == [records(1)]
    for file in found:
        file.close()


def test_the_folder_is_a_setting_and_nobody_elses_to_read(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    settings = Settings(home=tmp_path, runtime=RuntimeSettings(spill_dir=folder))
    file = SpillFolder(settings).create()

    assert file.path.parent == folder
    assert (folder.stat().st_mode & 0o777, file.path.stat().st_mode & 0o777) == (0o700, 0o600)
    file.close()


def test_a_folder_that_does_not_exist_has_no_leftovers(tmp_path: Path) -> None:
    assert list(SpillFolder(settings_for(tmp_path)).leftovers()) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from marlin.runtime.spill import Record, SpillFile
file = SpillFile.create(Path(sys.argv[1]), max_bytes=1 << 20)
file.append([Record(b"run-1", b"value %d" % n) for n in range(1000)])
let_go, letting_go = os.pipe()
if not os.fork():
    file.abandon()
    os.write(letting_go, b".")
    sys.stdin.read()  # lives on
    os._exit(0)
os.read(let_go, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_file_of_a_killed_process_is_free_though_its_child_lives(tmp_path: Path) -> None:
    path = tmp_path / "a.spill"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(path)], stdin=subprocess.PIPE)
    try:
        assert process.wait(timeout=30) == -9

        heir = adopted(path)

        assert drain(heir) == records(1000)
        heir.close()
    finally:
        process.communicate()
