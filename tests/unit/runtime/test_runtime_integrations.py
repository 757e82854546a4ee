"""`marlin.instrument` and `marlin.uninstrument`: names, repetition, what is not installed."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import marlin
from marlin.errors import ConfigurationError
from marlin.runtime import integrations


class Spy:
    """An integration that notes what is asked of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self._error = error

    def instrument(self) -> None:
        if self._error is not None:
            raise self._error
        self.asked.append("instrument")

    def uninstrument(self) -> None:
        self.asked.append("uninstrument")


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> dict[str, Spy]:
    found = {"openai": Spy(), "anthropic": Spy(RuntimeError("changed")), "google": Spy()}
    packages = {"openai": "json", "anthropic": "json", "google": "no_such_parent.genai"}
    monkeypatch.setattr(integrations, "INTEGRATIONS", packages)
    monkeypatch.setattr(integrations, "_instrumented", set[str]())
    monkeypatch.setattr(integrations, "_module", lambda name: found[name])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    return found


def test_repeating_changes_nothing(spies: dict[str, Spy]) -> None:
    marlin.uninstrument("openai")
    marlin.instrument("openai", "openai")
    marlin.instrument("openai")
    marlin.uninstrument("openai")
    marlin.uninstrument("openai")
    marlin.instrument("openai")
    assert spies["openai"].asked == ["instrument", "uninstrument", "instrument"]


def test_without_names_everything_imported_is_and_failures_are_logged(
    spies: dict[str, Spy], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        marlin.instrument()
    assert spies["openai"].asked == ["instrument"]
    assert "anthropic could not be instrumented" in caplog.text
    marlin.uninstrument()
    assert spies["openai"].asked == ["instrument", "uninstrument"]
    assert [spies["anthropic"].asked, spies["google"].asked] == [[], []]


def test_named_failures_are_raised(spies: dict[str, Spy]) -> None:
    with pytest.raises(ConfigurationError, match="no integration named 'opennai'; there are open"):
        marlin.instrument("opennai")
    with pytest.raises(ConfigurationError, match="no integration named"):
        marlin.uninstrument("opennai")
    with pytest.raises(ConfigurationError, match=r"package no_such_parent.genai is not installed"):
        marlin.instrument("google")
    with pytest.raises(RuntimeError, match="changed"):
        marlin.instrument("openai", "anthropic")
    assert spies["openai"].asked == ["instrument"]


def test_every_integration_is_there() -> None:
    for name, package in integrations.INTEGRATIONS.items():
        module: Any = integrations._module(name)  # pyright: ignore[reportPrivateUsage]
        assert callable(module.instrument), name
        assert callable(module.uninstrument), name
        assert integrations._is_installed(package), name  # pyright: ignore[reportPrivateUsage]


def test_without_names_a_package_is_metered_when_it_is_imported(
    spies: dict[str, Spy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "arriving").mkdir()
    (tmp_path / "arriving" / "__init__.py").write_text("from importlib.resources import files\n")
    (tmp_path / "leaving.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    packages = {"openai": "arriving", "google": "leaving"}
    monkeypatch.setattr(integrations, "INTEGRATIONS", packages)

    marlin.instrument()
    marlin.instrument()
    marlin.uninstrument("google")
    assert (spies["openai"].asked, "arriving" in sys.modules) == ([], False)
    arriving, leaving = import_module("arriving"), import_module("leaving")

    assert (spies["openai"].asked, spies["google"].asked) == (["instrument"], [])
    for module in (arriving, leaving):
        assert type(module.__loader__).__name__ == "SourceFileLoader"
        assert module.__spec__ is not None
        assert module.__spec__.loader is module.__loader__
    assert [finder for finder in sys.meta_path if type(finder).__name__ == "_Watch"] == []
    del sys.modules["arriving"], sys.modules["leaving"]


def test_a_package_that_cannot_be_imported_says_so_itself(
    spies: dict[str, Spy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise ImportError('its own')")
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    monkeypatch.setattr(integrations, "INTEGRATIONS", {"openai": "broken", "google": "absent_"})

    marlin.instrument()
    with pytest.raises(ImportError, match="its own"):
        import_module("broken")
    with pytest.raises(ModuleNotFoundError, match="absent_"):
        import_module("absent_")
    marlin.uninstrument()

    assert (spies["openai"].asked, spies["google"].asked) == ([], [])
    assert [finder for finder in sys.meta_path if type(finder).__name__ == "_Watch"] == []


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, marlin; marlin.instrument, marlin.uninstrument, marlin.run\n"
        "import marlin.runtime.integrations.calls; marlin.instrument()\n"
        "packages = ('openai', 'anthropic', 'google.genai', 'litellm', 'langchain_core')\n"
        "print([name for name in packages if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
