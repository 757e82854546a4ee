"""Google's Gemini, as its HTTP API answers: recorded shapes, no network."""

from __future__ import annotations

from typing import Any

import httpx
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials
from integrations.fakes.http import Answer, Asked, Server, events

__all__ = ["HOST", "MODEL", "USAGE", "Gemini", "answer", "embedding", "part", "server", "stream"]

HOST = "generativelanguage.googleapis.com"

USAGE: dict[str, Any] = {
    "promptTokenCount": 2255,
    "cachedContentTokenCount": 512,
    "candidatesTokenCount": 50,
    "thoughtsTokenCount": 70,
    "totalTokenCount": 2375,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 2255}],
    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 512}],
    "trafficType": "ON_DEMAND",
}
"""2,255 tokens in, of which 512 from the cache; 120 out, of which 70 thoughts."""

MODEL = "gemini-2.5-flash-001"


class Gemini:
    """The API: answers in the order given, the last one again and again."""

    def __init__(self, *answers: dict[str, Any] | list[dict[str, Any]] | Exception | int) -> None:
        """Each answer is the JSON of one, the chunks of a stream, an error of the connection, or
        the HTTP status of a refusal."""
        self.answers = list(answers) or [answer()]
        self.breaks_after: int | None = None
        """The connection breaks after so many chunks of a stream."""
        self.server = Server(self._answer)

    @property
    def requests(self) -> list[Asked]:
        """What was asked."""
        return self.server.asked

    def client(self, *, vertex_location: str | None = None) -> Any:
        """A `genai.Client` that reaches this API, and nothing else. Its types are partly unknown
        to a strict checker."""
        options = types.HttpOptions(
            httpx_client=self.server.client(), httpx_async_client=self.server.async_client()
        )
        if vertex_location is None:
            return genai.Client(api_key="test", http_options=options)
        return genai.Client(
            vertexai=True,
            project="project",
            location=vertex_location,
            credentials=Credentials(token="test"),
            http_options=options,
        )

    def _answer(self, asked: Asked) -> Answer:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        if isinstance(found, int):
            error = {"code": found, "message": "refused", "status": "INVALID_ARGUMENT"}
            return Answer(found, json={"error": error})
        if isinstance(found, dict):
            return Answer(json=found)
        pieces: list[str | bytes | Exception] = [*events(*found)]
        if self.breaks_after is not None:
            pieces[self.breaks_after :] = [httpx.ReadError("the connection broke")]
        return Answer(pieces=tuple(pieces))


def server() -> Server:
    """Answers as the API does."""
    return Server(
        lambda asked: (
            Answer(pieces=events(*stream()))
            if asked.path.endswith(":streamGenerateContent")
            else Answer(json=answer())
        )
    )


def part(content: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    """An answer, or a chunk of one, with this text or function call."""
    one: dict[str, Any] = {"text": content} if isinstance(content, str) else content
    candidate = {"content": {"role": "model", "parts": [one]}, "index": 0}
    finish = {"finishReason": more.pop("finish")} if "finish" in more else {}
    return {"candidates": [candidate | finish], "modelVersion": MODEL, "responseId": "r-1"} | more


def answer(
    content: str | dict[str, Any] = "Hello there", usage: dict[str, Any] | None = USAGE
) -> dict[str, Any]:
    """A whole answer."""
    return part(content, finish="STOP", **({} if usage is None else {"usageMetadata": usage}))


def stream(*, usage: bool = True) -> list[dict[str, Any]]:
    """The chunks of an answer of twelve characters; each counts the totals so far."""
    counts: list[dict[str, Any]] = [
        {"usageMetadata": USAGE | so_far}
        for so_far in (
            {"candidatesTokenCount": 20, "thoughtsTokenCount": 70},
            {"candidatesTokenCount": 35},
            {},
        )
    ]
    chunks = [part("Hello "), part("the"), part("re!", finish="STOP")]
    if not usage:
        return chunks
    return [chunk | count for chunk, count in zip(chunks, counts, strict=True)]


def embedding(*token_counts: int) -> dict[str, Any]:
    """What Vertex answers for texts of so many tokens."""
    return {
        "predictions": [
            {"embeddings": {"values": [0.5], "statistics": {"token_count": count}}}
            for count in token_counts
        ]
    }
