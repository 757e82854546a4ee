"""Telling when a package is imported for the first time, so that nothing is imported for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["forget_arrival", "on_arrival"]


def on_arrival(package: str, then: Callable[[], object]) -> None:
    """Call `then` right after `package` has been imported, in the thread that imports it.

    At once where it is imported already. Asked for twice before that, the last one is called.
    """
    if package in sys.modules:
        then()
        return
    forget_arrival(package)
    sys.meta_path.insert(0, _Watch(package, then))


def forget_arrival(package: str) -> None:
    """Do not wait for `package` any more."""
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if not (isinstance(finder, _Watch) and finder.package == package)
    ]


class _Watch:
    """A finder that finds one package, as the finders after it do, and reports its import."""

    def __init__(self, package: str, then: Callable[[], object]) -> None:
        self.package = package
        self._then = then

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self.package:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, _Watch):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ReportingLoader(spec.loader, self._arrived)
                return spec
        return None

    def _arrived(self) -> None:
        forget_arrival(self.package)
        self._then()


class _ReportingLoader(Loader):
    """The package's own loader, for the one time that it loads."""

    def __init__(self, loader: Loader, arrived: Callable[[], None]) -> None:
        self._loader = loader
        self._arrived = arrived

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Put back first: what the package does while it loads may ask for its loader.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._arrived()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
