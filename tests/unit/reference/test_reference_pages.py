"""`docs/reference` is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from marlin.reference.__main__ import FOLDER, PAGES, main


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_pages_are_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name](), "run `make docs`"


def test_check_tells_a_stale_page_and_writing_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "reference"
    assert main(["--check"], folder) == 1
    assert not folder.exists()
    assert capsys.readouterr().err.count("make docs") == len(PAGES)
    assert main([], folder) == 0
    assert main(["--check"], folder) == 0
    (folder / "settings.md").write_text("by hand\n")
    assert main(["--check"], folder) == 1
    assert capsys.readouterr().err == (
        f"{folder / 'settings.md'} is not what the code says; run `make docs`\n"
    )
