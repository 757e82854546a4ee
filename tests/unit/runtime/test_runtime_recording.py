"""The cheap event is the contract, byte for byte; what the contract refuses is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import DataError
from marlin.runtime import recording
from marlin.runtime.outgoing import Announcement, Origin, RecordedCall
from marlin.runtime.recording import Recorder
from marlin.schemas import EVENT, MAX_TOKENS, RunFinished, Usage, dump
from marlin.tokens import TokenUsage

ORIGIN = Origin("run-1", "p" * 32, "acme", None, {"team": "red"})
NAN = float("nan")


def recorded(
    tokens: TokenUsage,
    agent_id: Any = "writer",
    model: Any = "small-7b",
    provider: Any = "aws",
    region: Any = "us-east-1",
    latency_s: Any = None,
) -> RecordedCall:
    return Recorder(ORIGIN).record(tokens, agent_id, model, provider, region, latency_s)


def test_the_event_has_the_contracts_fields() -> None:
    tokens = TokenUsage(10, 20, 3, 4, 5, 0.25, "partial")

    call = recorded(tokens, latency_s=1.5)
    call.seq = 7

    assert call.usage() == Usage(
        event_id=f"{'p' * 32}-7",
        run_id="run-1",
        agent_id="writer",
        producer_id="p" * 32,
        seq=7,
        time=call.time,
        provider="aws",
        model="small-7b",
        region="us-east-1",
        input_tokens=10,
        cache_read_tokens=3,
        cache_write_tokens=4,
        output_tokens=20,
        reasoning_tokens=5,
        latency_s=1.5,
        cost_usd=0.25,
        tenant="acme",
        labels={"team": "red"},
        usage_quality="partial",
    )
    assert (call.run_id, call.type, call.is_usage) == ("run-1", "usage", True)


counts = st.integers(-2, MAX_TOKENS + 2) | st.sampled_from([True, 1.0, "1", None])
floats = st.none() | st.floats() | st.integers(-1, 10) | st.sampled_from(["1", True])
texts = st.text(max_size=5) | st.sampled_from(["x" * 256, "x" * 257, "\ud800", None, 7, ["a"]])
qualities = st.sampled_from(["reported", "partial", "estimated", "missing", "guessed", None, ["a"]])
usages: st.SearchStrategy[Any] = st.builds(
    TokenUsage,
    input_tokens=counts,
    output_tokens=counts,
    cache_read_tokens=counts,
    cache_write_tokens=counts,
    reasoning_tokens=counts,
    cost_usd=floats,  # type: ignore[arg-type]
    quality=qualities,  # type: ignore[arg-type]
)


@given(usages, texts, texts, texts, texts, floats)
def test_what_is_recorded_is_what_the_contract_takes_and_nothing_else(
    tokens: TokenUsage, agent_id: Any, model: Any, provider: Any, region: Any, latency_s: Any
) -> None:
    recorder = Recorder(ORIGIN)
    # Names that are known already must not let numbers through, or the other way round.
    recorder.record(TokenUsage(1, 1), "writer", "small-7b", "aws", "us-east-1", None)
    try:
        call = recorder.record(tokens, agent_id, model, provider, region, latency_s)
    except DataError:
        call = None

    try:
        fields = RecordedCall(
            *(ORIGIN, 0, recorded(TokenUsage(0, 0)).time, agent_id, provider, model, region),
            *(tokens.input_tokens, tokens.cache_read_tokens, tokens.cache_write_tokens),
            *(tokens.output_tokens, tokens.reasoning_tokens, latency_s, tokens.cost_usd),
            tokens.quality,
        ).fields()
        contract = Usage(**fields)
    except ValueError:
        contract = None
    if contract is None:
        assert call is None
    else:
        assert call is not None
        contract = contract.model_copy(update={"time": call.time})
        assert call.encode() == dump(contract)
        assert EVENT.validate_json(call.encode()) == contract


@pytest.mark.parametrize(
    ("tokens", "options"),
    [
        (TokenUsage(-1, 0), {}),
        (TokenUsage(0, MAX_TOKENS + 1), {}),
        (TokenUsage(0, 5, reasoning_tokens=6), {}),
        (TokenUsage(True, 0), {}),
        (TokenUsage(0, 0, cost_usd=NAN), {}),
        (TokenUsage(0, 0, cost_usd=-0.5), {}),
        (TokenUsage(0, 0, quality=["reported"]), {}),  # type: ignore[arg-type]
        (TokenUsage(0, 0), {"latency_s": float("inf")}),
        (TokenUsage(0, 0), {"agent_id": ""}),
        (TokenUsage(0, 0), {"model": "x" * 257}),
        (TokenUsage(0, 0), {"model": ["a"]}),
        (TokenUsage(0, 0), {"region": "\ud800"}),
    ],
)
def test_impossible_usage_says_it_is_not_counted(
    tokens: TokenUsage, options: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="run run-1 refused and not counted"):
        recorded(tokens, **options)


def test_known_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "KNOWN_NAMES", 20)
    recorder = Recorder(ORIGIN)
    for number in range(25):
        recorder.record(TokenUsage(1, 1), f"agent {number}", "m", "", "", None)

    assert recorder.known_names == 5


def test_a_lifecycle_event_travels_as_the_contract_it_is() -> None:
    finished = RunFinished(run_id="run-1", time=recorded(TokenUsage(0, 0)).time, status="completed")
    event = Announcement(finished)

    assert (event.run_id, event.type, event.is_usage) == ("run-1", "run.finished", False)
    assert event.encode() == dump(finished)
