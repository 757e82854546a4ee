"""What an agent is given: its task, what came before, and a metered way to call a model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marlin.errors import ConfigurationError
from marlin.runtime.carbon_event import CarbonEvent
from marlin.runtime.client import ModelClient, ModelReply, TokenUsage, estimated_usage
from marlin.runtime.integrations.calls import within
from marlin.runtime.run import Run
from marlin.tokens import tokens_of_length

__all__ = ["AgentContext", "CallDefaults", "shared_keys"]


@dataclass(frozen=True, slots=True)
class CallDefaults:
    """What a model call uses where it says nothing itself."""

    model: str | None
    provider: str
    region: str


def shared_keys(agent_id: str) -> tuple[str, str, str]:
    """The keys under which an agent appears in the context: output, carbon [g], water [mL]."""
    return agent_id, f"{agent_id}_carbon_g", f"{agent_id}_water_ml"


class AgentContext(Mapping[str, Any]):
    """Handed to each agent of a run.

    As a mapping it holds what the earlier agents left: `ctx["researcher"]` is an agent's output,
    `ctx["researcher_carbon_g"]` and `ctx["researcher_water_ml"]` are what it took, so that a
    later agent can choose a smaller model or leave something out.
    """

    def __init__(
        self,
        run: Run,
        agent_id: str,
        task: str,
        *,
        client: ModelClient,
        defaults: CallDefaults,
        shared: Mapping[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.agent_id = agent_id
        """The agent this context is for."""
        self.task = task
        """What the run was asked to do."""
        self._run = run
        self._client = client
        self._defaults = defaults
        self._shared = shared
        self._loop = loop

    def __getitem__(self, key: str) -> Any:
        return self._shared[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shared)

    def __len__(self) -> int:
        return len(self._shared)

    @property
    def run_id(self) -> str:
        """The run."""
        return self._run.run_id

    @property
    def run_carbon_g(self) -> float:
        """What the run spent so far [gCO2e], on the policy's bound."""
        return self._run.spent_g

    @property
    def remaining_g(self) -> float | None:
        """What is left of the budget [gCO2e], 0 or more; None where nothing is enforced."""
        return self._run.remaining_g

    def keep(self, output: Any) -> None:
        """Keep what this agent has so far: it is its output if the run stops before it returns."""
        self._run.keep(self.agent_id, output)

    def check(self) -> None:
        """Raise `CarbonBudgetExceededError` if the run must stop.

        Every model call does this first; call it before other costly steps.
        """
        self._run.check()

    async def call_model(self, prompt: str, *, model: str | None = None) -> ModelReply:
        """Call a model and count what it took.

        A call whose forecast does not fit into the budget is refused and not made; a call that
        crosses the budget all the same returns its reply, and the next one is refused. Both raise
        `CarbonBudgetExceededError`. Raises `ConfigurationError` without a model, and whatever the
        client raises; a call that raised is not counted, one that was cancelled counts its prompt.
        """
        name = self._model(model)
        prompt_tokens = tokens_of_length(len(prompt))
        call = self._run.start_call(
            agent_id=self.agent_id,
            model=name,
            provider=self._defaults.provider,
            region=self._defaults.region,
            prompt_tokens=prompt_tokens,
        )
        try:
            with within():  # an instrumented package below must not count it again
                reply = await self._client.complete(prompt, model=name)
        except asyncio.CancelledError:
            call.finish(TokenUsage(prompt_tokens, 0, quality="partial"))
            raise
        except BaseException:
            call.release()
            raise
        call.finish(reply.usage or estimated_usage(prompt, reply.text))
        return reply

    def call_model_sync(self, prompt: str, *, model: str | None = None) -> ModelReply:
        """`call_model` for agents that are plain functions; same promises.

        Raises `ConfigurationError` in an async agent, which would wait for itself.
        """
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise ConfigurationError(
                f"agent {self.agent_id} is async and called call_model_sync, which would block "
                "its own event loop; use `await ctx.call_model(...)`"
            )
        call = self.call_model(prompt, model=model)
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def record(
        self,
        tokens: TokenUsage,
        *,
        model: str | None = None,
        provider: str | None = None,
        region: str | None = None,
        latency_s: float | None = None,
    ) -> CarbonEvent:
        """Count a call that the agent made by itself, with another client.

        Never raises for a breach: what was used counts. Raises `DataError` for impossible counts.
        """
        return self._run.record(
            tokens,
            agent_id=self.agent_id,
            model=self._model(model),
            provider=provider or self._defaults.provider,
            region=region or self._defaults.region,
            latency_s=latency_s,
        )

    def _model(self, model: str | None) -> str:
        name = model or self._defaults.model
        if not name:
            raise ConfigurationError(
                f"agent {self.agent_id} called a model without naming one; give `model=` to the "
                "call or the agent, or `default_model=` to MeshFlow"
            )
        return name
