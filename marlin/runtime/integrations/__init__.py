"""One line that meters a provider's SDK: `marlin.instrument("openai")`.

Each integration replaces methods of the installed package by ones that ask the run before the call
and tell it the tokens afterwards, and can put the originals back. No package is imported before
its integration is asked for.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from importlib import import_module, util
from typing import Protocol, cast

from marlin.errors import ConfigurationError
from marlin.runtime.integrations.arrival import forget_arrival, on_arrival

__all__ = ["INTEGRATIONS", "instrument", "uninstrument"]

log = logging.getLogger("marlin.runtime")

INTEGRATIONS = {
    "anthropic": "anthropic",
    "google": "google.genai",
    "langchain": "langchain_core",
    "litellm": "litellm",
    "meshflow": "meshflow",
    "openai": "openai",
}
"""Name of each integration, and the package it instruments. Its module has the same name."""


class _Integration(Protocol):
    def instrument(self) -> None: ...
    def uninstrument(self) -> None: ...


# Reentrant: instrumenting one package may import another that was waited for.
_lock = threading.RLock()
_instrumented: set[str] = set()


def instrument(*names: str) -> None:
    """Meter the calls of the named packages; of every supported one, without names.

    Without names no package is imported for it: what the program has imported is instrumented now,
    the others when it imports them, and one that fails is logged and left alone.

    Repeating it changes nothing. Raises `ConfigurationError` for an unknown name, a package that
    is not installed, or a version of it that cannot be instrumented; what stood before it in
    `names` is instrumented then.
    """
    with _lock:
        for name in names:
            _instrument(name)
        if not names:
            for name, package in INTEGRATIONS.items():
                on_arrival(package, partial(_try_to_instrument, name))


def uninstrument(*names: str) -> None:
    """Put the originals of the named packages back; of every instrumented one, without names.

    Packages that are not instrumented are left alone. Calls that are under way are still counted.
    Raises `ConfigurationError` for an unknown name.
    """
    with _lock:
        for name in names or INTEGRATIONS:
            forget_arrival(_package(name))
            if name in _instrumented:
                _module(name).uninstrument()
                _instrumented.discard(name)


def _try_to_instrument(name: str) -> None:
    try:
        with _lock:
            _instrument(name)
    except Exception:
        log.exception("%s could not be instrumented; its calls are not metered", name)


def _instrument(name: str) -> None:
    if name in _instrumented:
        return
    package = _package(name)
    if not _is_installed(package):
        raise ConfigurationError(
            f"cannot instrument {name}: the package {package} is not installed; nothing was changed"
        )
    _module(name).instrument()
    _instrumented.add(name)


def _package(name: str) -> str:
    try:
        return INTEGRATIONS[name]
    except KeyError:
        raise ConfigurationError(
            f"no integration named {name!r}; there are {', '.join(INTEGRATIONS)}"
        ) from None


def _is_installed(package: str) -> bool:
    try:
        return util.find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is absent
        return False


def _module(name: str) -> _Integration:
    return cast(_Integration, import_module(f"{__name__}.{name}"))
