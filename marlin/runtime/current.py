"""Which run and agent the code being executed belongs to.

Held in context variables: what a task or `asyncio.to_thread` starts inherits them, a thread started
by hand does not (see `MeteredRun.agent`).
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marlin.runtime.meter import MeteredRun

__all__ = ["DEFAULT_AGENT", "Scope", "current_agent", "current_run"]

DEFAULT_AGENT = "default"
"""The agent of calls that are made outside any."""

_current: ContextVar[tuple[MeteredRun, str] | None] = ContextVar("marlin_current", default=None)


def current_run() -> MeteredRun | None:
    """The run that this code belongs to; None outside any."""
    found = _current.get()
    return None if found is None else found[0]


def current_agent(of: MeteredRun | None = None) -> str:
    """The agent that this code belongs to; `default` outside any, or in a run that is not `of`."""
    found = _current.get()
    return DEFAULT_AGENT if found is None or found[0] is not (of or found[0]) else found[1]


class Scope:
    """Makes a run and an agent the current ones, from `enter` to `leave`."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: Token[tuple[MeteredRun, str] | None] | None = None

    def enter(self, run: MeteredRun, agent_id: str = DEFAULT_AGENT) -> None:
        """From now on, in this context."""
        self._token = _current.set((run, agent_id))

    def leave(self) -> None:
        """What was current before is so again."""
        token, self._token = self._token, None
        if token is not None:
            # Left in another context than entered, as generators and test fixtures may be: the
            # variable was set in one that is gone or goes on by itself.
            with suppress(ValueError):
                _current.reset(token)
