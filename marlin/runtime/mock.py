"""The mock model client: real text and token counts out of a hash, no network, no clock."""

from __future__ import annotations

import random
from hashlib import blake2b

from marlin.runtime.client import ModelReply, TokenUsage

__all__ = ["MockModelClient"]

SHORTEST_REPLY_TOKENS = 120
LONGEST_REPLY_TOKENS = 640

USD_PER_INPUT_TOKEN = 1e-6
USD_PER_OUTPUT_TOKEN = 4e-6
"""Nominal prices [USD/token], the same for every model and no provider's: they only give a mock
run a cost to add up."""

# One token each for common byte-pair vocabularies, so that the text is as long as it says.
_VOCABULARY = """
about above after agent answer budget carbon change chart clear claim cloud compare cost data
draft early energy example figure fleet grid hour impact input large light limit list load local
lower measure model month note number often output over page paper part plan point power price
query range report result review risk rule run sample scale second share short sign small source
step sum table task term test time token total trend under unit value water week work year zone
"""
_WORDS = _VOCABULARY.split()


class MockModelClient:
    """A `ModelClient` that answers the same prompt with the same text and tokens, always.

    Tokens depend on the prompt, not on the model: models of different sizes do the same work, and
    a comparison shows only what the model costs. Reply lengths are spread evenly over
    `SHORTEST_REPLY_TOKENS` to `LONGEST_REPLY_TOKENS`, both inclusive.
    """

    async def complete(self, prompt: str, *, model: str) -> ModelReply:
        """Answer at once; never raises. `model` changes nothing, see the class."""
        seed = int.from_bytes(
            blake2b(prompt.encode(errors="surrogatepass"), digest_size=8).digest(), "big"
        )
        output_tokens = SHORTEST_REPLY_TOKENS + seed % (
            LONGEST_REPLY_TOKENS - SHORTEST_REPLY_TOKENS + 1
        )
        # A tokenizer sees a word and its space as one token, and a long word as several.
        input_tokens = max(1, sum(1 + len(word) // 8 for word in prompt.split()))
        words = random.Random(seed).choices(_WORDS, k=output_tokens)
        return ModelReply(
            text=" ".join(words),
            usage=TokenUsage(
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cost_usd=input_tokens * USD_PER_INPUT_TOKEN + output_tokens * USD_PER_OUTPUT_TOKEN,
            ),
        )
