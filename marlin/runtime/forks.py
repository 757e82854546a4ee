"""What a forked child must make anew, as it inherits the objects but neither threads nor rights."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Renewable", "renew_in_children"]


class Renewable(Protocol):
    """Something that two processes must not share."""

    def renew_after_fork(self) -> None:
        """Called in a forked child, before anything else there runs."""
        ...


_live = WeakSet[Renewable]()


def renew_in_children(one: Renewable) -> None:
    """Have `one` renewed in every child forked while it lives."""
    _live.add(one)


def _renew() -> None:
    for one in list(_live):
        one.renew_after_fork()


os.register_at_fork(after_in_child=_renew)
