"""MeshFlow's model calls: asked for before, counted after, under the agent's name.

MeshFlow reports one number of tokens for a call, prompt and answer together, and its mock only the
words of its answer. Where the provider's package is instrumented too, that counts instead, exactly
and by class; otherwise the answer's share is estimated from its length.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext
from contextvars import copy_context
from typing import Any

from meshflow.agents.base import EchoProvider, get_cache_stats, model_is_local
from meshflow.cache.provider import CachedProvider

from marlin.errors import CarbonBudgetExceededError
from marlin.normalise import Reading
from marlin.runtime.current import current_agent
from marlin.runtime.integrations.calls import MeteredCall, Outer, begin, characters_of, log_once
from marlin.runtime.integrations.meshflow_runs import (
    agent_name,
    check,
    is_inside_a_run,
    keep_refusal,
)
from marlin.runtime.integrations.replacement import Replacement
from marlin.tokens import TokenUsage, tokens_of_length

__all__ = ["metered_call", "metered_stream"]

PROVIDERS = {
    "AnthropicProvider": "anthropic",
    "AzureIdentityProvider": "azure",
    "AzureOpenAIProvider": "azure",
    "BedrockIAMProvider": "aws",
    "BedrockProvider": "aws",
    "GeminiProvider": "google",
    "OllamaProvider": "ollama",
    "OpenAICompatibleProvider": "openai",
    "VertexAIProvider": "gcp",
}
"""Who runs the models that one of MeshFlow's providers calls; unknown for the others."""


def metered_call(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    """`original`, a method of an agent that calls its model once, or in a loop with its tools."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    async def call(agent: Any, *args: Any, **kwargs: Any) -> Any:
        if not replacement.active:
            return await original(agent, *args, **kwargs)
        bound = signature.bind(agent, *args, **kwargs)
        with _as_agent(agent):
            begun = _begin(agent, bound.arguments)
            outer = Outer.enter(begun)
            if "tool_fns" in bound.arguments:
                bound.arguments["tool_fns"] = _tools(bound.arguments["tool_fns"], outer)
            cached_before = get_cache_stats()
            try:
                answer = await original(*bound.args, **bound.kwargs)
            except Exception:
                begun.fail()
                raise
            except BaseException:  # cancelled, while the provider was computing
                begun.partial(lambda: Reading(TokenUsage(0, 0, quality="partial")))
                raise
            finally:
                outer.end()
            if _is_from_cache(agent, answer):
                begun.fail()
            else:
                begun.finish(lambda: _reading(agent, answer, cached_before))
            return answer

    return call


def metered_stream(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    """`original`, an asynchronous generator function that streams a model's answer as text.

    It is a method of `Agent`, or a function whose first argument is a built one. Refused inside an
    entry it gives nothing: MeshFlow's parallel streams wait without end for one that raises.
    """

    @functools.wraps(original)
    async def stream(agent: Any, *args: Any, **kwargs: Any) -> AsyncIterator[str]:
        texts = original(agent, *args, **kwargs)
        if replacement.active:
            texts = _counted(texts, agent, (args, kwargs))
        async with aclosing(texts):
            async for text in texts:
                yield text

    return stream


async def _counted(texts: AsyncGenerator[str], agent: Any, prompt: object) -> AsyncGenerator[str]:
    try:
        with _as_agent(agent):
            begun = _begin(agent, {"messages": prompt})
    except CarbonBudgetExceededError:
        if is_inside_a_run():
            return
        raise
    outer, characters = Outer.enter(begun), 0

    def so_far() -> Reading:
        return Reading(TokenUsage(0, tokens_of_length(characters), quality="estimated"))

    try:
        async with aclosing(texts):
            async for text in texts:
                outer.end()
                characters += len(text)
                yield text
    except BaseException as exc:
        if isinstance(exc, Exception) and not characters:
            begun.fail()
        else:
            begun.partial(so_far)
        raise
    finally:
        outer.end()
    begun.finish(so_far)


def _as_agent(agent: Any) -> AbstractContextManager[object]:
    """Makes `agent` the current one; entering it raises if the run must stop."""
    name = agent_name(agent)
    try:
        from marlin.runtime.meter import metering_run

        return nullcontext() if current_agent() == name else metering_run().agent(name)
    except Exception:
        log_once("agent", "an agent of MeshFlow could not be named")
        return nullcontext()


def _begin(agent: Any, given: Mapping[str, Any]) -> MeteredCall:
    check()
    # A declared agent, which builds the one that has a configuration, or that one.
    config = getattr(agent, "config", agent)
    model = given.get("model_override") or config.model or "unknown"
    try:
        return begin(
            provider=PROVIDERS.get(type(_provider(agent)).__name__, ""),
            model=model,
            prompt=[
                given.get("messages"),
                given.get("system") or config.system_prompt,
                given.get("tool_schemas"),
            ],
            max_output_tokens=getattr(config, "max_tokens", None),
        )
    except CarbonBudgetExceededError as refusal:
        keep_refusal(refusal)
        raise


def _provider(agent: Any) -> Any:
    """What calls the model in the end, without what MeshFlow wraps around it."""
    provider = getattr(agent, "_provider", None) or getattr(agent, "provider", None)
    while (inner := vars(provider).get("_provider") or vars(provider).get("_inner")) is not None:
        provider = inner
    return provider


def _is_from_cache(agent: Any, answer: tuple[str, int, float]) -> bool:
    """Whether MeshFlow's cache answered: it tells the tokens of then, and no cost."""
    if not isinstance(agent._provider, CachedProvider) or answer[2]:
        return False
    free = isinstance(_provider(agent), EchoProvider) or model_is_local(agent.config.model)
    return not free


def _reading(agent: Any, answer: tuple[Any, ...], cached_before: Mapping[str, int]) -> Reading:
    content, total, cost_usd = answer[:3]
    output_tokens = tokens_of_length(characters_of(content))
    if not total or isinstance(_provider(agent), EchoProvider):
        return Reading(TokenUsage(0, output_tokens, quality="estimated"))
    output_tokens = min(output_tokens, total)
    cached = get_cache_stats()  # beside the total, and only of Anthropic's provider

    def since(key: str) -> int:
        return max(0, cached.get(key, 0) - cached_before.get(key, 0))

    return Reading(
        TokenUsage(
            input_tokens=total - output_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=since("cache_read_tokens"),
            cache_write_tokens=since("cache_creation_tokens"),
            cost_usd=cost_usd or None,
            quality="estimated",
        )
    )


def _tools(tools: Mapping[str, Any], outer: Outer) -> dict[str, Any]:
    """`tools` that find the run. MeshFlow calls plain functions in threads that do not inherit it,
    and the model calls that a tool makes are not this call's own."""
    context = copy_context()

    def carried(tool: Any) -> Any:
        if inspect.iscoroutinefunction(tool):

            @functools.wraps(tool)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                outer.end()
                return await tool(*args, **kwargs)

            return awaited

        @functools.wraps(tool)
        def called(*args: Any, **kwargs: Any) -> Any:
            outer.end()
            # One copy a call: several threads cannot be in the same context.
            return context.copy().run(tool, *args, **kwargs)

        return called

    return {name: carried(tool) for name, tool in tools.items()}
