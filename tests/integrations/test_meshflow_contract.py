"""What Marlin replaces in the package `meshflow`, held against the installed version."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import marlin
from marlin import ConfigurationError
from marlin.runtime.integrations import meshflow as integration
from marlin.runtime.integrations.replacement import Replacement


@pytest.fixture(autouse=True)
def _instrumented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    monkeypatch.setenv("MESHFLOW_MOCK", "1")
    monkeypatch.chdir(tmp_path)
    marlin.instrument("meshflow")
    yield
    marlin.uninstrument("meshflow")


POINTS = {
    **integration.ENTRIES,
    **integration.STEPS,
    **integration.MODEL_CALLS,
    **integration.STREAMS,
    **integration.TOKEN_STREAMS,
    **integration.FROM_PLAIN_CODE,
}


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    return str(inspect.Signature(bare))


@pytest.mark.parametrize("point", POINTS)
def test_what_is_replaced_is_as_it_was_when_this_was_written(point: str) -> None:
    """Fails where a new MeshFlow changed it: read what it does now, then change the table."""
    marlin.uninstrument("meshflow")
    owner, name = integration.owner_of(point)
    original = vars(owner)[name]
    assert _signature(original) == POINTS[point]
    assert (
        inspect.iscoroutinefunction(original)
        or inspect.isasyncgenfunction(original)
        or (point in integration.FROM_PLAIN_CODE)
    )
    marlin.instrument("meshflow")
    ours = vars(owner)[name]
    assert ours is not original
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(original)
    assert inspect.isasyncgenfunction(ours) == inspect.isasyncgenfunction(original)
    assert inspect.signature(ours) == inspect.signature(original)
    marlin.uninstrument("meshflow")
    assert vars(owner)[name] is original


def test_the_version_is_the_one_this_was_tested_with() -> None:
    installed = importlib.metadata.version("meshflow")
    assert installed.startswith(f"{integration.TESTED_VERSION}.")


def test_a_meshflow_that_lacks_a_point_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"has no Nobody; .* 1\.14 can"):
        integration.owner_of("meshflow.core.mesh:Nobody.run")
    owner, _ = integration.owner_of("meshflow.core.mesh:Mesh.stream")
    with pytest.raises(ConfigurationError, match="Mesh has no dance"):
        Replacement(owner, "dance", lambda original, _: original)
    monkeypatch.setattr(integration, "_replacements", list[Replacement]())
    monkeypatch.setitem(integration.STEPS, "meshflow.core.mesh:Mesh.dance", "()")
    marlin.uninstrument("meshflow")
    with pytest.raises(ConfigurationError, match="Mesh has no dance"):
        marlin.instrument("meshflow")
