"""LiteLLM's package: completions, streamed or not, of every provider, also through a `Router`.

What stops a call in LiteLLM's SDK is what is raised around it alone: its callbacks are told before
a call (`log_pre_api_call`), but what they raise is logged and dropped, and `async_pre_call_hook`
is the proxy's. So the functions themselves are replaced, wherever a module holds one. Whatever
else runs a model (embeddings, text completions, responses) is refused in the same way, and counted
by a callback once LiteLLM has logged it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import litellm
from litellm.exceptions import BadRequestError, Timeout
from litellm.router import Router

from marlin.errors import CarbonBudgetExceededError, ConfigurationError
from marlin.normalise import Reading
from marlin.normalise import litellm as usage_of
from marlin.runtime.integrations.calls import MeteredCall, begin, log_once, reading, within
from marlin.runtime.integrations.litellm_callback import CarbonLogger, is_counted_by_callback
from marlin.runtime.integrations.litellm_stream import is_stream, watch
from marlin.runtime.integrations.replacement import Replacement
from marlin.runtime.meter import metering_run
from marlin.tokens import TokenUsage

__all__ = ["instrument", "uninstrument"]


def instrument() -> None:
    """Meter every call that is made from now on.

    Modules that have imported one of the functions get ours. Raises `ConfigurationError` where
    the installed version cannot be instrumented.
    """
    functions = _functions()
    for function in functions:
        function.active = True
    _exchange([(one.original, one.ours) for one in functions])
    for method in _router():
        method.install()
    litellm.logging_callback_manager.add_litellm_callback(_CALLBACK)


def uninstrument() -> None:
    """Put the originals back."""
    functions = _functions()
    for function in functions:
        function.active = False
    _exchange([(one.ours, one.original) for one in functions])
    for method in _router():
        method.remove()
    # LiteLLM copies callbacks from list to list when it first calls them.
    for name in ("callbacks", *(f"{when}_callback" for when in ("input", "success", "failure"))):
        for callbacks in (getattr(litellm, name), getattr(litellm, f"_async_{name}", [])):
            callbacks[:] = [one for one in callbacks if one is not _CALLBACK]


_CALLBACK = CarbonLogger()


class _Function:
    """A function of LiteLLM's and ours."""

    def __init__(self, name: str, make: Callable[..., Callable[..., Any]]) -> None:
        """Raises `ConfigurationError` where LiteLLM has no such function."""
        self.active = False
        self.original: Any = getattr(litellm, name, None)
        if not callable(self.original):
            raise ConfigurationError(
                f"litellm has no {name}; this version cannot be instrumented, and its calls are "
                "not metered"
            )
        self.ours = make(self.original, self)


def _exchange(pairs: list[tuple[object, object]]) -> None:
    """Put the second of each pair wherever a module holds the first: `from litellm import
    completion` keeps it in one.

    LiteLLM's own modules keep theirs: what they call among themselves is part of a call.
    """
    wanted = {id(held): (held, put) for held, put in pairs}
    loaded: list[Any] = list(sys.modules.values())  # anything may be put there
    for module in loaded:
        if not isinstance(module, ModuleType) or module.__name__.startswith("litellm."):
            continue
        for name, value in list(vars(module).items()):
            if (found := wanted.get(id(value))) is not None and found[0] is value:
                setattr(module, name, found[1])


def _completion(original: Callable[..., Any], function: _Function) -> Callable[..., Any]:
    @functools.wraps(original)
    def completion(*args: Any, **kwargs: Any) -> Any:
        if not function.active:
            return original(*args, **kwargs)
        sent = _Sent(args, kwargs)
        try:
            with within():
                try:
                    answer = original(*args, **sent.kwargs)
                except BadRequestError as exc:
                    if not sent.must_send_as_it_was(exc):
                        raise
                    answer = original(*args, **sent.kwargs)
        except BaseException as exc:
            sent.failed(exc)
            raise
        sent.returned(answer)
        return answer

    return completion


def _acompletion(original: Callable[..., Any], function: _Function) -> Callable[..., Any]:
    @functools.wraps(original)
    async def acompletion(*args: Any, **kwargs: Any) -> Any:
        if not function.active:
            return await original(*args, **kwargs)
        sent = _Sent(args, kwargs)
        try:
            with within():
                try:
                    answer = await original(*args, **sent.kwargs)
                except BadRequestError as exc:
                    if not sent.must_send_as_it_was(exc):
                        raise
                    answer = await original(*args, **sent.kwargs)
        except BaseException as exc:
            sent.failed(exc)
            raise
        sent.returned(answer)
        return answer

    return acompletion


def _checked(
    original: Callable[..., Any], replacement: _Function | Replacement
) -> Callable[..., Any]:
    """Refused where the run must stop, before LiteLLM does anything; counted elsewhere."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if replacement.active:
            _check()
        return original(*args, **kwargs)

    @functools.wraps(original)
    async def acall(*args: Any, **kwargs: Any) -> Any:
        if replacement.active:
            _check()
        return await original(*args, **kwargs)

    # Frameworks ask which of the two a function is.
    return acall if inspect.iscoroutinefunction(original) else call


def _check() -> None:
    try:
        metering_run().check()
    except CarbonBudgetExceededError:
        raise
    except Exception:
        log_once("litellm", "a call of LiteLLM's could not be checked")


@functools.cache
def _functions() -> tuple[_Function, ...]:
    others = ("embedding", "text_completion", "responses", "image_generation")
    return (
        _Function("completion", _completion),
        _Function("acompletion", _acompletion),
        *(_Function(f"{kind}{name}", _checked) for name in others for kind in ("", "a")),
    )


@functools.cache
def _router() -> tuple[Replacement, ...]:
    """A router would try a refused call again and again, with pauses, before it gives up."""
    return tuple(Replacement(Router, name, _checked) for name in ("completion", "acompletion"))


class _Sent:
    """One completion that was let go."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises `CarbonBudgetExceededError` alone."""
        self.kwargs: dict[str, Any] = kwargs
        self._as_it_was: dict[str, Any] | None = None
        self._call = MeteredCall(None, 0)
        try:
            request = {**dict(zip(("model", "messages"), args, strict=False)), **kwargs}
            self._begin(request)
        except CarbonBudgetExceededError:
            raise
        except Exception:
            log_once("litellm", "a call of LiteLLM's could not be metered")

    def _begin(self, request: Mapping[str, Any]) -> None:
        outer = request.get("litellm_logging_obj")
        if outer is not None and is_counted_by_callback(outer.call_type):
            # LiteLLM makes a completion of something else, which is what it will log.
            return
        model, provider, base = _destination(request)
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        self._call = begin(
            provider=provider,
            model=model,
            prompt=[request.get(key) for key in ("messages", "tools", "functions")],
            max_output_tokens=limit * (request.get("n") or 1) if limit else None,
            region=next((found for key in _REGIONS if (found := request.get(key))), None),
        )
        tells = provider not in ("azure", "openai") or base is None or "openai.com" in base
        if self._call.counts and request.get("stream") and not tells:
            # Without it, OpenAI's API tells nothing of a stream's tokens. LiteLLM asks for it at
            # OpenAI alone.
            asked: dict[str, Any] = request.get("stream_options") or {}
            if not asked.get("include_usage"):
                self._as_it_was = self.kwargs
                wanted = {"stream_options": {**asked, "include_usage": True}}
                self.kwargs = {**self.kwargs, **wanted}

    def must_send_as_it_was(self, exc: Exception) -> bool:
        """Whether the caller's own request may succeed where ours did not; `kwargs` are it then."""
        refused = any(name in str(exc) for name in ("stream_options", "include_usage"))
        if self._as_it_was is None or not refused:
            return False
        self.kwargs, self._as_it_was = self._as_it_was, None
        return True

    def failed(self, exc: BaseException) -> None:
        """Nothing came. After a time-out, or in a cancelled task, the model computes on."""
        if isinstance(exc, Exception) and not isinstance(exc, Timeout):
            self._call.fail()
        else:
            self._call.partial(lambda: Reading(TokenUsage(0, 0, quality="missing")))

    def returned(self, answer: Any) -> None:
        """The answer is there, or begins to come."""
        try:
            if is_stream(answer):
                self._streams(answer)
            elif _hidden(answer).get("cache_hit"):
                self._call.fail()
            else:
                self._call.finish(lambda: _read(answer))
        except Exception:
            log_once("returned", "an answer of LiteLLM's could not be watched")

    def _streams(self, stream: Any) -> None:
        if stream.custom_llm_provider == "cached_response":
            self._call.fail()
            return
        if self._as_it_was is not None:
            stream.send_stream_usage = False
        if self._call.counts:
            watch(stream, self._call)


_REGIONS = ("aws_region_name", "vertex_location", "vertex_ai_location", "region_name")


def _destination(request: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """Model, provider and address, as LiteLLM will have them."""
    model, named = request.get("model") or "unknown", request.get("custom_llm_provider")
    base = request.get("api_base") or request.get("base_url")
    try:
        model, provider, _, found = litellm.get_llm_provider(model, named, base)
    except Exception:
        # LiteLLM says so itself, better.
        return model, named or "", base
    return model, provider, found or base


def _read(answer: Any) -> Reading:
    usage = getattr(answer, "usage", None)
    if not (getattr(usage, "prompt_tokens", 0) or getattr(usage, "completion_tokens", 0)):
        # It says 0 where the provider told nothing.
        usage = None
    found = reading(
        usage_of.usage_object,
        usage,
        output=[choice.message for choice in answer.choices],
        model=answer.model,
    )
    cost = _hidden(answer).get("response_cost")
    return replace(found, tokens=replace(found.tokens, cost_usd=cost or None))


def _hidden(answer: Any) -> Mapping[str, Any]:
    return getattr(answer, "_hidden_params", None) or {}
