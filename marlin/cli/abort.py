"""`marlin abort`: tell a run to stop."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from marlin.cli.console import AsJson, out, print_json
from marlin.cli.loop import run_async
from marlin.errors import BrokerError, ConfigurationError

if TYPE_CHECKING:
    from aiokafka.structs import RecordMetadata

    from marlin.schemas import Command
    from marlin.settings import Settings

__all__ = ["register"]

OPERATOR = "operator"
"""The cause under which an operator's abort is issued: one per run, however often it is asked."""


def register(app: typer.Typer) -> None:
    """Add `marlin abort`."""
    app.command(rich_help_panel="Runs")(abort)


def abort(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")],
    reason: Annotated[str, typer.Option(help="Told to the run and kept with it.")] = OPERATOR,
    as_json: AsJson = False,
) -> None:
    """Stop a run: its next model call raises, its remaining agents never run.

    The command goes to the run's runtime through Kafka. Sent twice, it is obeyed once.

    Example: `marlin abort 3f2c9a --reason "wrong prompt"`
    """
    from marlin.cli.settings import load_settings

    settings = load_settings()
    command = _command(run_id, reason)
    sent = run_async(_publish(settings, command))
    if as_json:
        position = {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset}
        print_json({**command.model_dump(mode="json", exclude_none=True), **position})
        return
    console = out()
    console.print(Text.assemble("abort sent to run ", (run_id, "bold"), f" ({reason})"))
    console.print(
        Text(
            f"command {command.command_id} on {sent.topic}, partition {sent.partition}; a runtime "
            "that listens obeys and acknowledges, see: marlin runs",
            style="dim",
        )
    )


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


async def _publish(settings: Settings, command: Command) -> RecordMetadata:
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    from marlin.broker.cluster import connect
    from marlin.cli.kafka import existing_partitions
    from marlin.schemas import dump
    from marlin.topics import Topics

    cluster = await connect(settings)
    topic = Topics(settings.kafka.topic_prefix).commands
    if topic not in await existing_partitions(settings):
        raise ConfigurationError(
            f"there is no topic {topic} on {cluster.bootstrap_servers}, so nobody listens; is it "
            "the right cluster and topic prefix? Nothing was sent"
        )
    producer = AIOKafkaProducer(**cluster.producer_options())
    try:
        await producer.start()
        # By its key on the same partition as the run's events: topics have equal partitions.
        return await producer.send_and_wait(topic, dump(command), key=command.run_id.encode())
    except KafkaError as exc:
        raise BrokerError(f"the command was not acknowledged: {exc}; send it again") from exc
    finally:
        await producer.stop()
