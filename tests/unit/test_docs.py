"""The documentation is true: snippets run, queries run, commands and links exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
import typer.main
from typer.core import TyperGroup
from typer.exceptions import TyperException

from marlin.cli.main import app
from marlin.schemas.generate import FAMILIES
from marlin.settings import Settings
from marlin.sinks.migrations import migrate

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)

# Commands that are not ours: what a reader types around them.
FOREIGN = {"export", "docker", "cd", "git", "pip", "python"}


class Block(NamedTuple):
    """A fenced block of a document."""

    where: str
    language: str
    text: str


def blocks(language: str) -> list[Block]:
    """Every fenced block of that language."""
    found: list[Block] = []
    for path in DOCUMENTS:
        text = path.read_text()
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            if match[1] == language:
                found.append(Block(f"{path.relative_to(ROOT)}:{line}", match[1], match[2]))
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of the `sh` blocks: where it is, and its words."""
    for block in blocks("sh"):
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield block.where, words


def setting_exists(variable: str) -> bool:
    """Whether an environment variable is one of Marlin's settings."""
    fields: dict[str, Any] = dict(Settings.model_fields)
    for part in variable.removeprefix("MARLIN_").lower().split("__"):
        if part not in fields:
            return False
        fields = dict(getattr(fields[part].annotation, "model_fields", {}))
    return True


def root_commands() -> Mapping[str, Any]:
    """The commands of `marlin`."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    return root.commands


def parse(words: list[str]) -> None:
    """Parse a `marlin` command line as the command would, and no more.

    Raises ValueError for an unknown command, TyperException for wrong arguments.
    """
    commands = root_commands()
    while True:
        if not words or words[0] not in commands:
            raise ValueError(f"no such command: {words}")
        command, words = commands[words[0]], words[1:]
        alone = isinstance(command, TyperGroup) and command.invoke_without_command
        if not isinstance(command, TyperGroup) or (alone and not {*words} & {*command.commands}):
            command.make_context("marlin", list(words))
            return
        commands = command.commands


# Pages of integrations need their providers: tests/integrations/test_pages.py runs them.
PYTHON = [one for one in blocks("python") if not one.where.startswith("docs/integrations/")]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_python_blocks_run(block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MARLIN_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    exec(compile(block.text, block.where, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", blocks("sql"), ids=lambda block: block.where)
def test_sql_blocks_run(block: Block) -> None:
    database = duckdb.connect(":memory:")
    migrate(database)

    for query in filter(str.strip, block.text.split(";")):
        assert database.execute(query).fetchall() == []


def test_commands_exist_with_their_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `replay` wants its file to exist.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    ours = 0
    for where, words in commands():
        program = words[0].removeprefix(".venv/bin/")
        if program == "marlin":
            parse(words[1:])
            ours += 1
        elif program == "make":
            asked = {word for word in words[1:] if "=" not in word}
            assert asked <= targets, where
        else:
            assert program in FOREIGN, where

    assert ours >= 8


@pytest.mark.parametrize(
    "words", [["nonsense"], ["up", "--nonsense"], ["topics", "nonsense"], ["worker", "extra"]]
)
def test_a_wrong_command_would_be_noticed(words: list[str]) -> None:
    with pytest.raises((ValueError, TyperException)):
        parse(words)


def test_the_readme_lists_every_command_and_no_other() -> None:
    listed = re.findall(r"^\| `marlin ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert sorted(listed) == sorted(root_commands())


def test_settings_that_are_named_exist() -> None:
    named = {
        (path.name, variable)
        for path in DOCUMENTS
        for variable in re.findall(r"\bMARLIN_[A-Z0-9_]*[A-Z0-9]", path.read_text())
    }

    assert ("README.md", "MARLIN_KAFKA__BOOTSTRAP_SERVERS") in named
    assert [variable for variable in named if not setting_exists(variable[1])] == []
    assert not setting_exists("MARLIN_KAFKA__NONSENSE")


def test_links_lead_somewhere() -> None:
    links = [
        (path, target)
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text())
        if "://" not in target
    ]

    assert len(links) > 5
    assert [(path, target) for path, target in links if not (path.parent / target).exists()] == []


def test_the_glossary_knows_every_field_with_a_unit() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    suffix = re.compile(r"_(wh|g|ml|g_per_kwh|s|tokens|usd)$")
    fields = {
        name
        for example in FAMILIES.values()
        for name in type(example).model_fields
        if suffix.search(name)
    }
    # A run's totals and a command's amounts are described by the plain names.
    derived = {"run_energy_wh", "run_carbon_g", "run_water_ml", "budget_g", "spent_g"}

    assert "carbon_g" in fields
    assert [name for name in sorted(fields - derived) if f"`{name}`" not in glossary] == []
