"""What the runtime's tests put in the place of Kafka and of a model provider."""

from __future__ import annotations

from dataclasses import dataclass, field

from marlin.estimation import default_estimator
from marlin.runtime import ModelReply, TokenUsage
from marlin.runtime.run import OutgoingEvent, Run, RunScope
from marlin.schemas import EVENT, Event, Policy

REGION = "us-east-1"
ONE_CALL = TokenUsage(input_tokens=1000, output_tokens=200)


@dataclass
class Sink:
    """Keeps what a run emits, as the pipeline would read it."""

    events: list[Event] = field(default_factory=list[Event])

    def emit(self, event: OutgoingEvent) -> None:
        self.events.append(EVENT.validate_json(event.encode()))

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


@dataclass
class FixedClient:
    """Answers every prompt with the same usage; remembers the prompts and models."""

    usage: TokenUsage | None = ONE_CALL
    calls: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    async def complete(self, prompt: str, *, model: str) -> ModelReply:
        self.calls.append((prompt, model))
        return ModelReply(f"reply {len(self.calls)}", self.usage)


def new_run(
    carbon_budget_g: float | None = None,
    *,
    sink: Sink | None = None,
    local_enforcement: bool = True,
    preflight: bool = False,
    policy: Policy | None = None,
    scope: RunScope | None = None,
) -> Run:
    """A run that only counts and checks; `preflight=True` refuses what cannot fit, as users' do."""
    return Run(
        "run-1",
        policy or Policy(carbon_budget_g=carbon_budget_g),
        default_estimator(),
        sink=sink,
        scope=scope,
        local_enforcement=local_enforcement,
        preflight=preflight,
    )


def call_g(model: str = "large-70b", input_tokens: int = 1000, output_tokens: int = 200) -> float:
    """Carbon of one call by the estimator alone [gCO2e]."""
    by = default_estimator().coefficients(model, "", REGION)
    return by.footprint(input_tokens, 0, 0, output_tokens)[1]


@dataclass(frozen=True)
class Emitted:
    """An event as a run emits it, of any content."""

    run_id: str
    value: bytes = b""
    is_usage: bool = True
    error: Exception | None = None

    @property
    def type(self) -> str:
        return "usage" if self.is_usage else "run.started"

    def encode(self) -> bytes:
        if self.error is not None:
            raise self.error
        return self.value
