"""One metered call, as every integration makes it: ask before, tell afterwards, never disturb.

    call = begin(provider="openai", model=model, prompt=messages)   # may refuse: budget
    try:
        with within():                      # what is called inside stands aside
            response = original(...)
    except BaseException as exc:
        call.fail()                         # or partial(...), where something was generated
        raise
    call.finish(lambda: reading(openai.chat, usage, output=text, model=response.model))

Only `CarbonBudgetExceededError` reaches the user. Whatever else fails inside Marlin is logged once
per kind; the call goes on uncounted.

Nested instrumentation counts once. LangChain over OpenAI, LiteLLM over OpenAI: the innermost call,
the provider's own package, counts, as it knows most. An outer integration that holds a call
already calls inward under `within()`: there `begin` returns a call that does nothing. An outer
integration that leaves the counting to the inner one simply does not `begin`. One that cannot know
whether there is an inner one enters an `Outer` with its call, until the request has surely gone
out: whatever begins inside takes its place.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from marlin.errors import CarbonBudgetExceededError, DataError
from marlin.normalise import Reading
from marlin.normalise.recognise import as_mapping
from marlin.runtime.current import DEFAULT_AGENT, current_agent
from marlin.runtime.open_calls import OPEN_CALLS
from marlin.tokens import TokenUsage, tokens_of_length

if TYPE_CHECKING:
    from marlin.runtime.meter import Call
    from marlin.schemas.usage import UsageQuality

__all__ = ["MeteredCall", "Outer", "begin", "characters_of", "log_once", "reading", "within"]

log = logging.getLogger("marlin.runtime")

NOT_TEXT = frozenset(
    {
        *("b64_json", "cache_control", "data", "encrypted_content", "file_data", "finish_reason"),
        *("id", "logprobs", "media_type", "mime_type", "role", "signature", "status", "type"),
    }
)
"""Keys whose strings no model reads as text: names, and bytes in disguise."""

_outer_counts: ContextVar[bool] = ContextVar("marlin_outer_counts", default=False)
_outer: ContextVar[Outer | None] = ContextVar("marlin_outer_call", default=None)
_outer_lock = threading.Lock()
_logged: set[tuple[str, type[BaseException]]] = set()
_logged_lock = threading.Lock()


class MeteredCall:
    """A call under way. The first of `finish`, `partial`, `fail` settles it; none ever raises."""

    def __init__(self, call: Call | None, prompt_tokens: int, run: object = None) -> None:
        self._call = call
        self._prompt_tokens = prompt_tokens
        self._abandon: Callable[[], None] | None = None
        self._number: int | None = None
        self.run = run
        """The run that it counts in."""

    @property
    def counts(self) -> bool:
        """Whether something is still to be settled; False where an outer call counts, or where
        Marlin failed."""
        return self._call is not None

    @property
    def agent_id(self) -> str | None:
        """Whose call it is; None once it is settled."""
        return None if self._call is None else self._call.agent_id

    def finish(self, read: Callable[[], Reading]) -> None:
        """The answer is complete. `read` runs guarded; a failing one counts the prompt alone."""
        self._settle(read, partial=False)

    def partial(self, read: Callable[[], Reading]) -> None:
        """Cancelled or broken half way: `read` tells what came so far."""
        self._settle(read, partial=True)

    def fail(self) -> None:
        """It ended before anything was generated: nothing is counted."""
        if (call := self._take()) is not None:
            _release(call)

    def keep_open(self, settle: Callable[[], None], reader: object) -> None:
        """A stream comes: once `reader`, the object it is read from, is dropped, or the run ends,
        `settle` is called if nothing has settled it. It must not refer to `reader`. Repeating it
        replaces both."""
        if self._call is None:
            return
        try:
            self._close()
            self._abandon = settle
            self._number = OPEN_CALLS.add(self)
            weakref.finalize(reader, OPEN_CALLS.drop, self._number)
        except Exception:
            log_once("open", "a stream cannot be watched; it counts only if it is read to its end")

    def abandon(self) -> None:
        """Nobody reads the stream any more. Called by `OpenCalls`."""
        if self._abandon is not None:
            self._abandon()

    def _close(self) -> None:
        if self._number is not None:
            OPEN_CALLS.discard(self._number)

    def _take(self) -> Call | None:
        call, self._call = self._call, None
        self._close()
        return call

    def _settle(self, read: Callable[[], Reading], *, partial: bool) -> None:
        if (call := self._take()) is None:
            return
        try:
            found = self._read(read)
            tokens = self._with_prompt(found.tokens)
            if partial:
                tokens = replace(tokens, quality="partial")
            call.finish(tokens, model=found.model)
        except Exception:
            log_once("finish", "a call could not be counted")
            _release(call)

    def _read(self, read: Callable[[], Reading]) -> Reading:
        try:
            return read()
        except Exception:
            log_once("read", "an answer could not be read; its prompt is counted, its output not")
            return Reading(TokenUsage(0, 0, quality="missing"))

    def _with_prompt(self, tokens: TokenUsage) -> TokenUsage:
        known = tokens.input_tokens + tokens.cache_read_tokens + tokens.cache_write_tokens
        if tokens.quality == "reported" or known:
            return tokens
        return replace(tokens, input_tokens=self._prompt_tokens)


def _release(call: Call) -> None:
    try:
        call.release()
    except Exception:
        log_once("release", "what a call had reserved could not be given back")


def begin(
    *,
    provider: str,
    model: str,
    prompt: object,
    max_output_tokens: int | None = None,
    region: str | None = None,
) -> MeteredCall:
    """Ask the current run whether this call may go, and reserve what it will take.

    `prompt` is the payload as it will be sent, of any shape; its text is counted roughly. Raises
    `CarbonBudgetExceededError` where the run must stop or the call cannot fit, and nothing else.
    """
    if _outer_counts.get():
        return MeteredCall(None, 0)
    outer = _outer.get()
    try:
        from marlin.runtime.meter import metering_run

        OPEN_CALLS.settle_dropped()
        agent_id = outer.give_way() if outer is not None else None
        prompt_tokens = tokens_of_length(characters_of(prompt))
        run = metering_run()
        call = run.start_call(
            provider=provider,
            model=model,
            prompt_tokens=prompt_tokens,
            max_output_tokens=max_output_tokens,
            region=region,
            agent_id=agent_id,
        )
    except CarbonBudgetExceededError:
        raise
    except Exception:
        log_once("begin", "a call could not be metered")
        return MeteredCall(None, 0)
    return MeteredCall(call, prompt_tokens, run)


class Outer:
    """A call that counts unless another begins inside it: that one, which knows more, takes its
    place, and its agent. Several that were entered one after the other give way one by one.

    It may be ended in any thread or task, also where a context variable could not be reset:
    frameworks run the callbacks of one call in several contexts.
    """

    def __init__(self, call: MeteredCall) -> None:
        around = _outer.get()
        self._call = call
        # Ended ones are let go of: a task that makes calls for days must not chain them up.
        self._around = around._nearest() if around is not None else None
        self._ended = False

    @classmethod
    def enter(cls, call: MeteredCall) -> Outer:
        """From now on, in this thread or task and in what it starts."""
        outer = cls(call)
        _outer.set(outer)
        return outer

    def end(self) -> None:
        """What begins from now on is another call. Repeating it changes nothing."""
        self._ended = True

    def give_way(self) -> str | None:
        """Take back the innermost of these calls; its agent, unless the code names one itself."""
        with _outer_lock:
            one = self._nearest()
            if one is None:
                return None
            one._ended = True
        agent_id = one._call.agent_id if current_agent() == DEFAULT_AGENT else None
        one._call.fail()
        return agent_id

    def _nearest(self) -> Outer | None:
        one: Outer | None = self
        while one is not None and one._ended:
            one = one._around
        return one


@contextmanager
def within() -> Generator[None]:
    """While inside, `begin` returns calls that do nothing: an outer call counts already.

    Holds for this thread or task, and for what it starts inside.
    """
    token = _outer_counts.set(True)
    try:
        yield
    finally:
        _outer_counts.reset(token)


def reading(
    shape: Callable[[Mapping[str, Any]], TokenUsage],
    usage: object,
    *,
    output: object = None,
    output_characters: int = 0,
    model: str | None = None,
) -> Reading:
    """`usage` read by `shape`; where it is absent or contradicts itself, the output's length.

    `usage` is a mapping or an object with `model_dump`. The output is whatever the model
    generated, or how many characters came. Its length gives quality `estimated`, or `missing`
    where there is no output either.
    """
    try:
        if usage is not None:
            return Reading(shape(as_mapping(usage)), model)
    except DataError:
        log_once("usage", "the usage in an answer is refused; it is estimated from lengths")
    output_tokens = tokens_of_length(output_characters + characters_of(output))
    quality: UsageQuality = "estimated" if output_tokens else "missing"
    return Reading(TokenUsage(0, output_tokens, quality=quality), model)


def characters_of(payload: object) -> int:
    """How many characters of text a payload holds: every string a model reads, however nested.

    Images, files and other bytes count nothing.
    """
    return _characters(payload, set())


def _characters(value: object, around: set[int]) -> int:
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    if value is None or isinstance(value, bytes | bool | int | float) or id(value) in around:
        return 0
    around.add(id(value))  # what contains itself would never end
    try:
        return sum(_characters(part, around) for part in _parts(value))
    finally:
        around.discard(id(value))


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value).items()
        return [part for key, part in items if key not in NOT_TEXT]
    if isinstance(value, list | tuple):
        return cast(list[object], value)
    if hasattr(value, "model_dump"):
        # Its fields as they stand: dumping a model with foreign content warns, in the user's log.
        return vars(value), getattr(value, "model_extra", None)
    return ()


def log_once(kind: str, what: str) -> None:
    """Log the exception being handled, once per kind and type: an agent makes thousands of calls.

    Called inside an `except` block.
    """
    found = sys.exc_info()[0] or Exception
    with _logged_lock:
        if (kind, found) in _logged:
            return
        _logged.add((kind, found))
    log.warning("%s; the user's call goes on (logged once)", what, exc_info=True)
