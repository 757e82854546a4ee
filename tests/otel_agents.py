"""A process of agents that are traced by the OpenTelemetry SDK; its spans go to Kafka.

    python otel_agents.py BOOTSTRAP TOPIC ENCODING RUNS SEED

In the Collector's place it writes each batch of the SDK's own exporter encoding to a random
partition (or keyed by trace), and some of them twice, as a retry would. It prints what was
really used: `{run_id: [calls, input tokens, output tokens]}`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span
from otel_spans import as_json, as_proto

Ledger = dict[str, list[int]]


class Batches(SpanExporter):
    """Collects ended spans into batches of a few, cut anywhere in a trace."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.batches: list[list[ReadableSpan]] = [[]]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches[-1] += spans
        if self._rng.random() < 0.2:
            self.batches.append([])
        return SpanExportResult.SUCCESS


class Agents:
    """Runs of agents whose every layer reports the tokens of what is inside it."""

    def __init__(self, exporter: SpanExporter, rng: random.Random) -> None:
        self._rng = rng
        self._provider = TracerProvider(
            resource=Resource({"service.name": "agents", "cloud.region": "DE"})
        )
        self._provider.add_span_processor(SimpleSpanProcessor(exporter))
        self.ledger: Ledger = defaultdict(lambda: [0, 0, 0])

    def run(self, run_id: str) -> None:
        """One run: a workflow of agents, each with its chats and a tool."""
        with self._span("workflow", "invoke_workflow", run_id) as workflow:
            for name in ("researcher", "writer"):
                with self._span("agent", "invoke_agent", run_id, name) as agent:
                    used = [self._chat(run_id, name) for _ in range(self._rng.randrange(1, 4))]
                    with self._span("tool", "execute_tool", run_id, name):
                        used.append(self._call(run_id, name, "embeddings"))
                    _report(agent, sum(one[0] for one in used), sum(one[1] for one in used))
            _report(workflow, *self.ledger[run_id][1:])

    def _chat(self, run_id: str, agent: str) -> tuple[int, int]:
        """A chat as a framework traces it: around its request, around the provider's own span."""
        with self._span("framework", "chat", run_id, agent) as frame:
            with self._provider.get_tracer("http").start_as_current_span("POST"):
                used = self._call(run_id, agent, "chat")
            _report(frame, *used)
        return used

    def _call(self, run_id: str, agent: str, operation: str) -> tuple[int, int]:
        used = (self._rng.randrange(1, 9000), self._rng.randrange(1, 900))
        with self._span("provider", operation, run_id, agent) as call:
            _report(call, *used)
        self.ledger[run_id] = [
            self.ledger[run_id][0] + 1,
            self.ledger[run_id][1] + used[0],
            self.ledger[run_id][2] + used[1],
        ]
        return used

    @contextmanager
    def _span(self, layer: str, operation: str, run_id: str, agent: str = "") -> Generator[Span]:
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.conversation.id": run_id,
            "gen_ai.agent.name": agent,
        }
        tracer = self._provider.get_tracer(layer)
        with tracer.start_as_current_span(f"{operation} {layer}", attributes=attributes) as span:
            yield span


def _report(span: Span, input_tokens: int, output_tokens: int) -> None:
    # Some layers use the names of before 2024.
    old = span.get_span_context().span_id % 2
    span.set_attribute(f"gen_ai.usage.{'prompt' if old else 'input'}_tokens", input_tokens)
    span.set_attribute(f"gen_ai.usage.{'completion' if old else 'output'}_tokens", output_tokens)


async def send(
    bootstrap: str, topic: str, values: Sequence[tuple[bytes | None, bytes]], rng: random.Random
) -> None:
    """Each record in turn, some again later."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False)
    await producer.start()
    try:
        for key, value in [*values, *rng.sample(values, len(values) // 4)]:
            await producer.send_and_wait(topic, value, key=key)
    finally:
        await producer.stop()


def main(bootstrap: str, topic: str, encoding: str, runs: str, seed: str) -> None:
    """See the module."""
    rng = random.Random(seed)
    exporter = Batches(rng)
    agents = Agents(exporter, rng)
    for number in range(int(runs)):
        agents.run(f"{encoding}-{seed}-{number}")
    encode = as_json if encoding == "otlp_json" else as_proto
    values = [
        (rng.choice([None, str(number).encode()]), encode(batch))
        for number, batch in enumerate(exporter.batches)
        if batch
    ]
    asyncio.run(send(bootstrap, topic, values, rng))
    print(json.dumps(agents.ledger))


if __name__ == "__main__":
    main(*sys.argv[1:])
