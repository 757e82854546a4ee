"""Who serves a model, by the host that is asked."""

from __future__ import annotations

import pytest

from marlin.runtime.integrations.hosts import served_by


@pytest.mark.parametrize(
    ("base_url", "provider", "region"),
    [
        ("https://api.openai.com/v1/", "openai", None),
        ("https://API.OpenAI.com", "openai", None),
        ("https://contoso.openai.azure.com/openai/", "azure", None),
        ("https://swedencentral.api.cognitive.microsoft.com/", "azure", "swedencentral"),
        ("https://bedrock-runtime.eu-north-1.amazonaws.com", "aws", "eu-north-1"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "aws", "us-gov-west-1"),
        ("https://bedrock-mantle.us-east-2.api.aws/anthropic", "aws", "us-east-2"),
        ("https://europe-west4-aiplatform.googleapis.com/v1", "google", "europe-west4"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "google", None),
        ("https://api.x.ai/v1", "xai", None),
        ("https://api.anthropic.com", "anthropic", None),
        # Only whole labels count, and only at the end.
        ("https://evilopenai.com", "other", None),
        ("https://openai.com.evil.example", "other", None),
        ("http://localhost:11434/v1", "other", None),
        ("not a url", "other", None),
        ("", "other", None),
    ],
)
def test_served_by(base_url: str, provider: str, region: str | None) -> None:
    assert served_by(base_url, otherwise="other") == (provider, region)
