"""Which run and agent the code being executed belongs to.

Held in context variables: what a task or `asyncio.to_thread` starts inherits them, a thread started
by hand does not (see `MeteredRun.agent`).
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marlin.runtime.meter import MeteredRun

__all__ = ["DEFAULT_AGENT", "Scope", "current_agent", "current_run"]

DEFAULT_AGENT = "default"
"""The agent of calls that are made outside any."""

_run: ContextVar[MeteredRun | None] = ContextVar("marlin_run", default=None)
_agent: ContextVar[str] = ContextVar("marlin_agent", default=DEFAULT_AGENT)


def current_run() -> MeteredRun | None:
    """The run that this code belongs to; None outside any."""
    return _run.get()


def current_agent() -> str:
    """The agent that this code belongs to; `default` outside any."""
    return _agent.get()


class Scope:
    """Makes a run and an agent the current ones, from `enter` to `leave`."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens: tuple[Token[MeteredRun | None], Token[str]] | None = None

    def enter(self, run: MeteredRun, agent_id: str = DEFAULT_AGENT) -> None:
        """From now on, in this context."""
        self._tokens = _run.set(run), _agent.set(agent_id)

    def leave(self) -> None:
        """What was current before is so again."""
        if self._tokens is None:
            return
        run_token, agent_token = self._tokens
        self._tokens = None
        try:
            _run.reset(run_token)
            _agent.reset(agent_token)
        except ValueError:
            # Left in another context than entered, as generators and test fixtures may be: the
            # variables were set in one that is gone or goes on by itself.
            return
