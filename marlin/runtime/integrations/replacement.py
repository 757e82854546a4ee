"""Replacing a method of somebody's class, or a module's function, and putting it back."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from marlin.errors import ConfigurationError

__all__ = ["Replacement"]


class Replacement:
    """The method `name` of `owner`, or of the base that defines it, replaced while installed; or
    the function of that name, where `owner` is a module. Who imported it before keeps the original.
    """

    def __init__(
        self,
        owner: type | ModuleType,
        name: str,
        make: Callable[[Callable[..., Any], Replacement], Callable[..., Any]],
    ) -> None:
        """`make(original, replacement)` gives the method to put there; it does as the original
        does while `replacement.active` is False.

        Raises `ConfigurationError` where `owner` has no such method: its package has changed
        beyond what is known of it.
        """
        bases = owner.__mro__ if isinstance(owner, type) else (owner,)
        definers = [base for base in bases if name in vars(base)]
        if not definers:
            package = owner.__module__ + "." if isinstance(owner, type) else ""
            raise ConfigurationError(
                f"{package}{owner.__name__} has no {name}; this version of its "
                "package cannot be instrumented, and nothing was changed"
            )
        self._owner, self._name, self._make = definers[0], name, make
        self._original: Any = None
        self._ours: Any = None
        self.active = False

    def install(self) -> None:
        """Replace it. Repeating it changes nothing."""
        self.active = True
        if self._ours is None:
            self._original = vars(self._owner)[self._name]
            self._ours = self._make(self._original, self)
            setattr(self._owner, self._name, self._ours)

    def remove(self) -> None:
        """Put the very original back.

        Where somebody else has replaced ours since, theirs stays and leads through ours, which
        does as the original does until it is installed again.
        """
        self.active = False
        if vars(self._owner).get(self._name) is self._ours:
            setattr(self._owner, self._name, self._original)
            self._ours = None
