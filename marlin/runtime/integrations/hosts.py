"""Who serves a model, by the host that is asked."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["served_by"]

_PROVIDERS = {
    "anthropic.com": "anthropic",
    "openai.com": "openai",
    "openai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "cognitive.microsoft.com": "azure",
    "services.ai.azure.com": "azure",
    "models.ai.azure.com": "azure",
    "amazonaws.com": "aws",
    "api.aws": "aws",
    "googleapis.com": "google",
    "cerebras.ai": "cerebras",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "deepinfra.com": "deepinfra",
    "deepseek.com": "deepseek",
    "fireworks.ai": "fireworks",
    "groq.com": "groq",
    "huggingface.co": "huggingface",
    "hyperbolic.xyz": "hyperbolic",
    "mistral.ai": "mistral",
    "moonshot.ai": "moonshot",
    "moonshot.cn": "moonshot",
    "nebius.com": "nebius",
    "nvidia.com": "nvidia",
    "openrouter.ai": "openrouter",
    "perplexity.ai": "perplexity",
    "sambanova.ai": "sambanova",
    "scaleway.ai": "scaleway",
    "together.ai": "together",
    "together.xyz": "together",
    "x.ai": "xai",
}
"""Domain of a public endpoint, as its owner documents it, and its provider's name here."""

_REGIONS = tuple(
    re.compile(pattern)
    for pattern in (
        r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com",
        r"bedrock-mantle\.([a-z0-9-]+)\.api\.aws",
        r"([a-z0-9-]+)-aiplatform\.googleapis\.com",
        r"([a-z0-9]+)\.api\.cognitive\.microsoft\.com",
    )
)
"""Hosts that name the region they serve from."""


def served_by(base_url: object, *, otherwise: str) -> tuple[str, str | None]:
    """The provider at `base_url`, and its region where the host tells; `otherwise` where the host
    is not known. Whoever stands behind a gateway stays unknown."""
    host = (urlsplit(str(base_url)).hostname or "").lower()
    labels = host.split(".")
    for start in range(len(labels)):
        if provider := _PROVIDERS.get(".".join(labels[start:])):
            return provider, _region(host)
    return otherwise, None


def _region(host: str) -> str | None:
    for pattern in _REGIONS:
        if found := pattern.fullmatch(host):
            return found[1]
    return None
