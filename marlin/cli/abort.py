"""`marlin abort`: tell a run to stop, and hear whether it did."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from marlin.cli.console import AsJson, out, print_json
from marlin.cli.figures import grams, milliseconds
from marlin.cli.loop import run_async
from marlin.errors import BrokerError, ConfigurationError, QueryError, SinkError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.structs import RecordMetadata

    from marlin.broker.cluster import Cluster
    from marlin.schemas import Command
    from marlin.settings import Settings

__all__ = ["register"]

OPERATOR = "operator"
"""The cause under which an operator's abort is issued: one per run, however often it is asked."""

NOT_STOPPED = 3
"""Exit code when the command was sent and no runtime has said that the run stopped."""

_FETCH_WAIT_MS = 20

_EARLIER = """
SELECT outcome, stopped_at, overshoot_g, overshoot_ms FROM commands
WHERE command_id = $1 AND outcome IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a runtime said to an abort."""

    outcome: str
    stopped_at: datetime
    overshoot_g: float
    overshoot_ms: float | None


def register(app: typer.Typer) -> None:
    """Add `marlin abort`."""
    app.command(rich_help_panel="Runs")(abort)


def abort(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")],
    reason: Annotated[str, typer.Option(help="Told to the run and kept with it.")] = OPERATOR,
    wait_s: Annotated[
        float,
        typer.Option(
            min=0, help="Wait so long for the runtime's acknowledgement; 0: do not wait [s]."
        ),
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Stop a run: its next model call raises, its remaining agents never run.

    The command goes to the run's runtime through Kafka, which acknowledges it when the run has
    stopped. Sent twice, it is obeyed once. Exit codes: 0 the run has stopped or was over (or,
    with --wait-s 0, the command was sent), 3 nobody has acknowledged the command, 1 it could not
    be sent.

    Example: `marlin abort 3f2c9a --reason "wrong prompt"`
    """
    from marlin.cli.settings import load_settings

    settings = load_settings()
    command = _command(run_id, reason)
    sent, answer = run_async(_send(settings, command, wait_s))
    if answer is None and wait_s:
        answer = _earlier_answer(settings, command)
    if as_json:
        print_json(_as_json(command, sent, answer, waited=wait_s > 0))
    else:
        out().print(Text.assemble("abort sent to run ", (run_id, "bold"), f" ({reason})"))
        out().print(_said(answer, wait_s))
        out().print(
            Text(
                f"command {command.command_id} on {sent.topic}, partition {sent.partition}",
                style="dim",
            )
        )
    if wait_s and (answer is None or answer.outcome == "refused"):
        raise typer.Exit(NOT_STOPPED)


def _said(answer: _Answer | None, wait_s: float) -> Text:
    if answer is None:
        if not wait_s:
            return Text("a runtime that listens obeys and acknowledges, see: marlin runs")
        return Text.assemble(
            ("unacknowledged", "bold red"),
            f": nobody has answered within {wait_s:g} s. A runtime in the middle of a model call "
            "answers after it; one that was killed never does. See: marlin runs",
        )
    if answer.outcome == "refused":
        return Text.assemble(("refused", "bold red"), " by the runtime: the run goes on")
    what = "the run had ended" if answer.outcome == "already_finished" else "the run has stopped"
    text = Text.assemble(("acknowledged", "bold green"), f": {what}")
    if answer.outcome == "stopped":
        text.append(f", {grams(answer.overshoot_g)} over its budget")
        if answer.overshoot_ms is not None:
            text.append(f", {milliseconds(answer.overshoot_ms)} after the command")
    return text


def _as_json(
    command: Command, sent: RecordMetadata, answer: _Answer | None, *, waited: bool
) -> dict[str, Any]:
    """`acknowledged` is null where nobody waited for it."""
    return {
        **command.model_dump(mode="json", exclude_none=True),
        **{"topic": sent.topic, "partition": sent.partition, "offset": sent.offset},
        "acknowledged": answer is not None if waited else None,
        "outcome": answer and answer.outcome,
        "stopped_at": answer and answer.stopped_at.isoformat().replace("+00:00", "Z"),
        "overshoot_g": answer and answer.overshoot_g,
        "overshoot_ms": answer and answer.overshoot_ms,
    }


def _command(run_id: str, reason: str) -> Command:
    from pydantic import ValidationError

    from marlin.schemas import Command, command_id

    try:
        return Command(
            command_id=command_id(run_id, OPERATOR),
            run_id=run_id,
            action="abort",
            reason=reason,
            issued_at=datetime.now(UTC),
        )
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise ConfigurationError(
            f"no command can say this, nothing was sent: {first['loc'][0]}: {first['msg']}"
        ) from exc


async def _send(
    settings: Settings, command: Command, wait_s: float
) -> tuple[RecordMetadata, _Answer | None]:
    """Send `command`; what the runtime answers within `wait_s` [s]."""
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    from marlin.broker.cluster import connect
    from marlin.cli.kafka import existing_partitions
    from marlin.schemas import dump
    from marlin.topics import Topics

    cluster, topics = await connect(settings), Topics(settings.kafka.topic_prefix)
    partitions = await existing_partitions(settings)
    if not {topics.commands, topics.events} <= partitions.keys():
        raise ConfigurationError(
            f"there is no topic {topics.commands} on {cluster.bootstrap_servers}, so nobody "
            "listens; is it the right cluster and topic prefix? Nothing was sent"
        )
    async with AsyncExitStack() as stack:
        try:
            consumer = None
            if wait_s:
                consumer = await _listen(stack, cluster, topics.events, partitions, command.run_id)
            producer = AIOKafkaProducer(**cluster.producer_options())
            stack.push_async_callback(producer.stop)
            await producer.start()
            # By its key on the same partition as the run's events: topics have equal partitions.
            key = command.run_id.encode()
            sent = await producer.send_and_wait(topics.commands, dump(command), key=key)
        except KafkaError as exc:
            raise BrokerError(f"the command was not acknowledged: {exc}; send it again") from exc
        return sent, await _hear(consumer, command, wait_s) if consumer else None


async def _listen(
    stack: AsyncExitStack, cluster: Cluster, topic: str, partitions: dict[str, int], run_id: str
) -> AIOKafkaConsumer:
    """A consumer of what the run's runtime says from now on."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from marlin.runtime.producer import partition_of

    consumer = AIOKafkaConsumer(
        **cluster.client_options(), enable_auto_commit=False, fetch_max_wait_ms=_FETCH_WAIT_MS
    )
    stack.push_async_callback(consumer.stop)
    await consumer.start()
    place = TopicPartition(topic, partition_of(run_id, partitions[topic]))
    ends = await consumer.end_offsets([place])
    consumer.assign([place])
    consumer.seek(place, ends[place])
    return consumer


async def _hear(consumer: AIOKafkaConsumer, command: Command, wait_s: float) -> _Answer | None:
    import asyncio

    from aiokafka.errors import KafkaError

    from marlin.schemas import AbortAcknowledged

    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(wait_s):
            async for record in consumer:
                # Most records are usage of this and other runs: not worth validating.
                if b"abort.acknowledged" not in (record.value or b""):
                    continue
                with suppress(ValueError):
                    event = AbortAcknowledged.model_validate_json(record.value or b"")
                    if event.command_id == command.command_id:
                        return _Answer(
                            event.outcome, event.stopped_at, event.overshoot_g, event.overshoot_ms
                        )
    return None


def _earlier_answer(settings: Settings, command: Command) -> _Answer | None:
    """The answer to an earlier copy of the command, from the database: it is given once."""
    from marlin.query import query

    with suppress(QueryError, SinkError):  # no database here, or nobody has made it yet
        rows = query(_EARLIER, [command.command_id], settings=settings, max_rows=1).rows
        return _Answer(*rows[0]) if rows else None
    return None
