"""`marlin demo`: a simulated fleet of agents through the whole pipeline, then what it cost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from typing import TYPE_CHECKING

import typer
from rich.live import Live
from rich.text import Text

from marlin.cli.console import AsJson, err, out, print_json
from marlin.cli.loop import on_signals, run_async, unless
from marlin.errors import MarlinError, StateError

if TYPE_CHECKING:
    from marlin.cli.demo_report import DemoReport
    from marlin.cli.demo_screen import Progress
    from marlin.cli.pipeline import Pipeline
    from marlin.runtime import CarbonEvent, RunResult
    from marlin.settings import Settings

__all__ = ["register"]

_INTERRUPTED = 130
_STORED_TIMEOUT_S = 20.0
_LOOK_S = 0.25
_DIFFERENCES_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add `marlin demo`."""
    app.command(rich_help_panel="Start here")(demo)


def demo(as_json: AsJson = False) -> None:
    """Run a simulated fleet of agents through the whole pipeline, and show what it cost.

    Needs nothing: it starts Kafka (embedded, unless a cluster is configured), worker and sink,
    runs two dozen workflows on a mock model, some of them beyond their carbon budget, and reads
    every number of the summary back from DuckDB. The database stays, in MARLIN_HOME/demo.

    Example: `marlin demo --json`
    """
    from marlin.cli.pipeline import only_one
    from marlin.cli.settings import load_settings

    settings = _settings(load_settings())
    with only_one(settings.home_dir, "demo"):
        report = run_async(_demo(settings))
    if report is None:
        raise typer.Exit(_INTERRUPTED)
    database = str(settings.database_path)
    if as_json:
        print_json({**report.as_json(), "duckdb": database})
        return
    from marlin.cli.demo_screen import show_summary

    show_summary(out(), report, database)


def _settings(given: Settings) -> Settings:
    """The demo's own home, database and topics, so that it disturbs nobody's."""
    home = given.home_dir.absolute() / "demo"
    kafka = given.kafka.model_copy(update={"topic_prefix": f"{given.kafka.topic_prefix}demo."})
    sink = given.sink.model_copy(update={"database": home / "marlin.duckdb"})
    return given.model_copy(update={"home": home, "kafka": kafka, "sink": sink})


async def _demo(settings: Settings) -> DemoReport | None:
    """The report of one demo; None when it was interrupted."""
    from marlin.cli.pipeline import Pipeline

    stop = asyncio.Event()

    def on_signal(received: int) -> None:
        if received > 1:
            os._exit(_INTERRUPTED)
        stop.set()

    reports: list[DemoReport] = []

    async def carry_out(pipeline: Pipeline) -> None:
        reports.append(await _carry_out(pipeline))

    with on_signals(on_signal):
        async with Pipeline(settings, say=_say) as pipeline:
            if await unless(stop, carry_out(pipeline)):
                return reports[0]
            _say("interrupted; stopping Kafka, worker and sink")
    return None


async def _carry_out(pipeline: Pipeline) -> DemoReport:
    from marlin.cli.demo_report import differences
    from marlin.cli.demo_screen import Progress
    from marlin.cli.fleet import RUNS

    console = err()
    with console.status("Starting Kafka, worker and sink …"):
        await pipeline.start()
    demo_id = f"demo-{uuid.uuid4().hex[:8]}"
    run_ids = [f"{demo_id}-{number:02}" for number in range(1, RUNS + 1)]
    progress = Progress(runs=len(run_ids))
    shown = Live(progress, console=console, refresh_per_second=8, transient=True)
    with shown if console.is_terminal else contextlib.nullcontext():
        results, report = await _watch(pipeline, demo_id, run_ids, progress)
    with console.status("Stopping …"):
        await pipeline.stop()
    wrong = differences(report, results)
    if wrong:
        shown_wrong = "; ".join(wrong[:_DIFFERENCES_SHOWN])
        raise StateError(
            f"DuckDB does not have what the fleet counted, in {len(wrong)} points: {shown_wrong} "
            f"(logs: {pipeline.logs})"
        )
    return report


async def _watch(
    pipeline: Pipeline, demo_id: str, run_ids: list[str], progress: Progress
) -> tuple[list[RunResult], DemoReport]:
    """Run the fleet, then wait until DuckDB has all of it (or for long enough)."""
    from marlin.cli.fleet import run_fleet
    from marlin.runtime.link import close_links

    def on_carbon(event: CarbonEvent) -> None:
        progress.calls += 1
        progress.carbon_g += event.carbon_g

    def on_result(result: RunResult) -> None:
        progress.finished += 1
        progress.aborted += result.status.value == "aborted"
        why = f" ({result.reason})" if result.reason else ""
        progress.last = f"run {result.run_id} {result.status.value}{why}"

    looking = asyncio.create_task(_look(pipeline.settings, demo_id, progress))
    try:
        results = await run_fleet(
            pipeline.settings, run_ids, on_carbon=on_carbon, on_result=on_result
        )
        report = await _stored(pipeline.settings, demo_id, results)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        # While the broker is still there to take what is left.
        await asyncio.to_thread(close_links)
    return results, report


async def _look(settings: Settings, demo_id: str, progress: Progress) -> None:
    """Keep `progress` up to date with what DuckDB has."""
    from marlin.query import query

    sql = (
        "SELECT count(*) AS calls, coalesce(sum(carbon_g), 0) AS carbon_g FROM events "
        "WHERE starts_with(run_id, $1)"
    )
    while True:
        # A look that fails says nothing of the demo; the last one is the one that counts.
        with contextlib.suppress(MarlinError):
            stored = await asyncio.to_thread(query, sql, [f"{demo_id}-"], settings=settings)
            progress.stored_calls, progress.stored_carbon_g = stored.rows[0]
        await asyncio.sleep(_LOOK_S)


async def _stored(settings: Settings, demo_id: str, results: list[RunResult]) -> DemoReport:
    """What DuckDB has as soon as it agrees with the fleet, at the latest after a while."""
    from marlin.cli.demo_report import differences, read_report

    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _STORED_TIMEOUT_S
    while True:
        report = await asyncio.to_thread(read_report, settings, demo_id)
        if not differences(report, results) or loop.time() > deadline_s:
            return report
        await asyncio.sleep(_LOOK_S)


def _say(message: str) -> None:
    err().print(Text(message), style="dim", soft_wrap=True)
