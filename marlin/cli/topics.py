"""`marlin topics`: the topics that Marlin uses."""

from __future__ import annotations

import asyncio

import typer
from rich.table import Table

from marlin.cli.console import AsJson, out, print_json

__all__ = ["register"]

_PURPOSE = {
    "events": "what runtimes send, keyed by run",
    "carbon": "one footprint per accepted event",
    "commands": "aborts and warnings to runtimes",
    "deadletter": "refused events with their reason",
    "runs": "state of the workers (compacted)",
    "grid": "carbon intensity by zone and hour (compacted)",
}

topics = typer.Typer(help="Create or list the topics that Marlin uses.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `marlin topics`."""
    app.add_typer(topics, name="topics", rich_help_panel="Pipeline")


@topics.command()
def create(as_json: AsJson = False) -> None:
    """Create the topics that are missing; those that exist are left as they are.

    Example: `MARLIN_KAFKA__PARTITIONS=16 marlin topics create`
    """
    from marlin.broker.cluster import create_topics
    from marlin.cli.settings import load_settings

    settings = load_settings()
    found = asyncio.run(create_topics(settings))
    _print(found, settings.kafka.topic_prefix, as_json)


@topics.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the topics that Marlin uses and whether they exist.

    Example: `marlin topics list --json`
    """
    from marlin.cli.kafka import existing_partitions
    from marlin.cli.settings import load_settings

    settings = load_settings()
    found = asyncio.run(existing_partitions(settings))
    _print(found, settings.kafka.topic_prefix, as_json)


def _print(partitions: dict[str, int], prefix: str, as_json: bool) -> None:
    from marlin.topics import Topics

    names = Topics(prefix)
    rows = [
        {"topic": name, "partitions": partitions.get(name, 0), "purpose": purpose}
        for name, purpose in ((getattr(names, use), text) for use, text in _PURPOSE.items())
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("topic", "partitions", "what for", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for row in rows:
        count = str(row["partitions"]) if row["partitions"] else "[yellow]missing[/]"
        table.add_row(str(row["topic"]), count, str(row["purpose"]))
    out().print(table)
