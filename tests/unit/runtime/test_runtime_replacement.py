"""Replacing somebody's method, and putting it back."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from marlin.errors import ConfigurationError
from marlin.runtime.integrations.replacement import Replacement


def louder(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    def greet(*args: Any) -> Any:
        return f"{original(*args)}!" if replacement.active else original(*args)

    return greet


def classes() -> tuple[type[Any], type[Any]]:
    class Base:
        def greet(self) -> str:
            return "hello"

    class Derived(Base):
        pass

    return Base, Derived


def test_the_base_that_defines_it_is_replaced_and_gets_its_very_own_back() -> None:
    base, derived = classes()
    original = vars(base)["greet"]
    one = derived()
    replacement = Replacement(derived, "greet", louder)
    assert one.greet() == "hello"
    replacement.install()
    replacement.install()
    assert one.greet() == base().greet() == "hello!"
    assert "greet" not in vars(derived)
    replacement.remove()
    replacement.remove()
    assert vars(base)["greet"] is original
    replacement.install()
    assert one.greet() == "hello!"
    replacement.remove()


def test_under_somebody_elses_replacement_ours_falls_silent_and_speaks_again() -> None:
    base, _ = classes()
    replacement = Replacement(base, "greet", louder)
    replacement.install()
    ours = vars(base)["greet"]

    def theirs(self: Any) -> str:
        return f"{ours(self)}?"

    base.greet = theirs
    replacement.remove()
    assert (vars(base)["greet"], base().greet()) == (theirs, "hello?")
    replacement.install()
    assert base().greet() == "hello!?"


def test_a_function_of_a_module() -> None:
    module = ModuleType("theirs")
    vars(module)["greet"] = lambda: "hello"
    original = vars(module)["greet"]
    replacement = Replacement(module, "greet", louder)
    replacement.install()
    assert vars(module)["greet"]() == "hello!"
    replacement.remove()
    assert vars(module)["greet"] is original


def test_what_is_not_there_cannot_be_replaced() -> None:
    with pytest.raises(ConfigurationError, match="Derived has no part_with; this version"):
        Replacement(classes()[1], "part_with", louder)
    with pytest.raises(ConfigurationError, match="theirs has no greet"):
        Replacement(ModuleType("theirs"), "greet", louder)
