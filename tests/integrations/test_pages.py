"""Every page of `docs/integrations` is true: its code runs, and prints what it says.

The `python` blocks of a page run in order, as one program, against the real packages; requests are
answered by the fakes of `integrations/fakes`. A `text` block right after one is what it prints.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from integrations.fakes import anthropic, gemini, openai
from integrations.fakes.http import serving

import marlin
from marlin.runtime.integrations import INTEGRATIONS

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "integrations").glob("*.md"))

ENVIRONMENT = {
    "ANTHROPIC_API_KEY": "none",
    "GEMINI_API_KEY": "none",
    "OPENAI_API_KEY": "none",
    # LiteLLM: its price list and its connections come from here, not from the network.
    "DISABLE_AIOHTTP_TRANSPORT": "True",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


class Block(NamedTuple):
    """A `python` block, and the `text` block right after it."""

    line: int
    code: str
    prints: str | None


def blocks(page: str) -> list[Block]:
    """The code of a page."""
    return [
        Block(page.count("\n", 0, found.start(1)), found[1], found[2])
        for found in re.finditer(
            r"^```python\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?", page, re.MULTILINE | re.DOTALL
        )
    ]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARLIN_HOME", str(tmp_path))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    yield
    marlin.uninstrument()


# Pydantic warns of how LiteLLM uses it.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_the_page_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    providers = {one.HOST: one.server() for one in (anthropic, gemini, openai)}
    with serving(providers):
        for block in blocks(page.read_text()):
            capsys.readouterr()
            # The line numbers of a traceback are those of the page.
            source = "\n" * block.line + block.code
            exec(compile(source, str(page), "exec"), namespace)
            if block.prints is not None:
                assert capsys.readouterr().out == block.prints, f"{page.name}:{block.line}"


def test_every_integration_has_its_page_and_is_in_the_index() -> None:
    assert {page.stem for page in PAGES} >= {"index", *INTEGRATIONS}
    index = (ROOT / "docs" / "integrations" / "index.md").read_text()
    for page in PAGES:
        if page.stem != "index":
            assert f"]({page.name})" in index, page.name


def test_blocks_are_found_with_what_they_print() -> None:
    code, printed = "```python\na = 1\nprint(a)\n```\n", "```text\n1\n```\n"
    page = f"# x\n\n{code}\n{printed}\ntext\n\n```python\nb\n```\n"
    assert blocks(page) == [Block(3, "a = 1\nprint(a)\n", "1\n"), Block(14, "b\n", None)]
