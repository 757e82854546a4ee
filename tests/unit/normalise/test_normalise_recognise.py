"""Which provider's shape an answer has."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message
from google.genai.types import GenerateContentResponse
from integrations.fakes import anthropic as anthropic_fake
from integrations.fakes import openai as openai_fake
from langchain_core.messages import AIMessage
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from marlin.errors import DataError
from marlin.normalise import Reading, read
from marlin.normalise.recognise import as_mapping
from marlin.tokens import TokenUsage

OPENAI = TokenUsage(1743, 120, 512, 0, 70)
ANTHROPIC = TokenUsage(10, 120, 512, 1733, 70)
LANGCHAIN_USAGE: Any = {
    "input_tokens": 2255,
    "output_tokens": 120,
    "total_tokens": 2375,
    "input_token_details": {"cache_read": 512, "cache_creation": 1733},
    "output_token_details": {"reasoning": 70},
}
GEMINI_USAGE = {
    "promptTokenCount": 2255,
    "cachedContentTokenCount": 512,
    "candidatesTokenCount": 50,
    "thoughtsTokenCount": 70,
    "totalTokenCount": 2375,
}
GEMINI = {"usageMetadata": GEMINI_USAGE, "modelVersion": "gemini-2.5-pro"}

CASES: list[tuple[object, Reading]] = [
    (openai_fake.chat(), Reading(OPENAI, openai_fake.MODEL)),
    (ChatCompletion.model_validate(openai_fake.chat()), Reading(OPENAI, openai_fake.MODEL)),
    (openai_fake.CHAT_USAGE, Reading(OPENAI)),
    (openai_fake.response(), Reading(OPENAI, openai_fake.MODEL)),
    (Response.model_validate(openai_fake.response()), Reading(OPENAI, openai_fake.MODEL)),
    (openai_fake.RESPONSES_USAGE, Reading(OPENAI)),
    (anthropic_fake.message(), Reading(ANTHROPIC, anthropic_fake.MODEL, "anthropic")),
    (
        Message.model_validate(anthropic_fake.message()),
        Reading(ANTHROPIC, anthropic_fake.MODEL, "anthropic"),
    ),
    (anthropic_fake.USAGE, Reading(ANTHROPIC, None, "anthropic")),
    (GEMINI, Reading(OPENAI, "gemini-2.5-pro", "google")),
    (GenerateContentResponse.model_validate(GEMINI), Reading(OPENAI, "gemini-2.5-pro", "google")),
    (GEMINI_USAGE, Reading(OPENAI, None, "google")),
    (LANGCHAIN_USAGE, Reading(ANTHROPIC)),
    (
        AIMessage("x", usage_metadata=LANGCHAIN_USAGE, response_metadata={"model_name": "m"}),
        Reading(ANTHROPIC, "m"),
    ),
    (
        {**openai_fake.CHAT_USAGE, "cache_read_input_tokens": 512},
        Reading(OPENAI),
    ),
    ({"input_tokens": 7, "output_tokens": 3}, Reading(TokenUsage(7, 3))),
    ({"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}, Reading(TokenUsage(7, 3))),
    (
        {"input_tokens": 7, "output_tokens": 3, "cache_read_tokens": 4, "reasoning_tokens": 2},
        Reading(TokenUsage(7, 3, 4, 0, 2)),
    ),
    (TokenUsage(7, 3), Reading(TokenUsage(7, 3))),
    (Reading(TokenUsage(7, 3), "m", "p"), Reading(TokenUsage(7, 3), "m", "p")),
]


@pytest.mark.parametrize(("answer", "expected"), CASES)
def test_read(answer: object, expected: Reading) -> None:
    assert read(answer) == expected


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "no token usage in NoneType"),
        ("42 tokens", "no token usage in str"),
        ({}, "no token usage in dict"),
        ({"id": 1}, "no token usage in dict"),
        ({"usage": None}, "no token usage in dict"),
        ({"usage": 7}, "expected a mapping or a model, got int"),
        ({"usage": {"tokens": 7}}, "usage of an unknown shape: tokens"),
        ({"usage": {}}, "without output_tokens"),
        ({"input_tokens": -7, "output_tokens": 3}, "input_tokens is -7"),
        (
            {"input_tokens": 7, "output_tokens": 3, "reasoning_tokens": 4},
            r"reasoning_tokens \(4\) exceed",
        ),
        (AIMessage("nothing reported"), "no token usage in AIMessage"),
    ],
)
def test_what_has_no_usage_is_refused(answer: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(answer)


class Dumped:
    """Somebody's model."""

    def __init__(self, dumped: object) -> None:
        self.dumped = dumped

    def model_dump(self) -> object:
        return self.dumped


def test_any_object_with_model_dump_is_a_mapping() -> None:
    assert as_mapping(Dumped({"a": 1})) == {"a": 1}
    with pytest.raises(DataError, match="gave list"):
        as_mapping(Dumped([1]))


def test_unvalidated_models_are_dumped_without_a_warning() -> None:
    usage: Any = CompletionUsage.model_construct(prompt_tokens="x", completion_tokens=1)
    with pytest.raises(DataError, match="prompt_tokens is 'x'"):
        read({"usage": usage})
