"""Token usage of every provider's answers, in Marlin's classes.

One module a provider, each with pure functions from a usage mapping to `TokenUsage`; nothing here
imports a provider's package. The classes never overlap: a cached token is counted once, reasoning
is inside the output.
"""

from __future__ import annotations

from marlin.normalise.reading import Reading
from marlin.normalise.recognise import read

__all__ = ["Reading", "read"]
