"""`marlin replay`: recorded traces into the events topic."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, err, out, print_json
from marlin.cli.loop import on_signals, run_async

if TYPE_CHECKING:
    from marlin.cli.playback import BadLines, Playback
    from marlin.cli.sending import Acknowledged
    from marlin.settings import Settings

__all__ = ["register"]

_INTERRUPTED = 130
_LOOK_S = 0.2


def register(app: typer.Typer) -> None:
    """Add `marlin replay`."""
    app.command(rich_help_panel="Start here")(replay)


@dataclass(frozen=True, slots=True)
class _Trace:
    """What the options say about the calls of CSV traces."""

    model: str | None
    region: str | None
    provider: str
    runs: int
    agents: int


@dataclass(frozen=True, slots=True)
class _Report:
    """What a replay did."""

    replay_id: str
    rows: int
    runs: int
    acknowledged: Acknowledged
    bad_lines: BadLines
    seconds: float
    stopped: str | None
    """Why it ended before its files did."""

    @property
    def events_per_s(self) -> float:
        return self.acknowledged.usages / self.seconds if self.seconds else 0.0


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, readable=True, metavar="FILE", help="CSV or JSONL traces."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Model of the calls of CSV traces.")] = None,
    region: Annotated[
        str | None, typer.Option(help="Cloud region or country of the calls of CSV traces.")
    ] = None,
    provider: Annotated[str, typer.Option(help="Provider of the calls of CSV traces.")] = "",
    runs: Annotated[
        int, typer.Option(min=1, max=100_000, help="Runs to spread CSV rows over.")
    ] = 16,
    agents: Annotated[int, typer.Option(min=1, max=1000, help="Agents in each of them.")] = 4,
    speed: Annotated[
        str, typer.Option(metavar="X|max", help="Times the original pace, or as fast as possible.")
    ] = "max",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Feed recorded traces into the pipeline.

    A CSV trace has the columns TIMESTAMP, ContextTokens and GeneratedTokens. Its rows are spread
    over new runs; their timestamps are kept as event times (UTC). A JSONL file has one event a
    line and is sent as it is: what was counted before is not counted again.

    Lines that cannot be read are skipped and listed, and the command ends with 1.

    Example: `marlin replay trace.csv --model gpt-4o --region fr --runs 8`
    """
    times = _times(speed)
    from marlin.cli.settings import load_settings

    trace = _Trace(model, region, provider, runs, agents)
    report = run_async(_replay(load_settings(), files, trace, times, limit))
    if as_json:
        print_json(_as_dict(report))
    else:
        _show(report, files)
    _show_bad_lines(report.bad_lines)
    if report.stopped is not None:
        err().print(
            Text(f"{report.stopped}; {report.acknowledged.usages:,} events were acknowledged")
        )
        raise typer.Exit(_INTERRUPTED)
    if report.bad_lines.count:
        raise typer.Exit(1)


def _times(speed: str) -> float | None:
    """How many times the original pace, None for as fast as possible."""
    if speed == "max":
        return None
    try:
        times = float(speed)
    except ValueError:
        times = 0.0
    if not 0 < times < float("inf"):
        raise typer.BadParameter(
            f"expected `max` or a number above 0, got {speed!r}", param_hint="--speed"
        )
    return times


async def _replay(
    settings: Settings, files: list[Path], trace: _Trace, speed: float | None, limit: int | None
) -> _Report:
    from marlin.broker.cluster import connect
    from marlin.cli.playback import Playback, open_sources
    from marlin.cli.sending import Sender
    from marlin.replay import Spread

    replay_id = f"replay-{uuid.uuid4().hex[:8]}"
    stop = _Stop()
    with contextlib.ExitStack() as stack:
        sources = open_sources(files, stack)
        spread: Spread | None = None
        if any(source.kind == "csv" for source in sources):
            model, region = _given("--model", trace.model), _given("--region", trace.region)
            spread = Spread(
                replay_id,
                model=model,
                provider=trace.provider,
                region=region,
                runs=trace.runs,
                agents=trace.agents,
            )
        playback = Playback(sources, spread, limit=limit)
        cluster = await connect(settings)
        async with Sender(settings, cluster) as sender:
            total = sum(path.stat().st_size for path in files)
            update = stack.enter_context(_progress(playback, sender.acknowledged, total, limit))
            stack.enter_context(on_signals(stop.on_signal))
            started_s = time.perf_counter()
            watching = asyncio.create_task(stop.when_up_stops(settings))
            try:
                await playback.play(sender, speed=speed, stop=stop.event, progress=update)
            finally:
                watching.cancel()
            seconds = time.perf_counter() - started_s
            return _Report(
                replay_id,
                playback.rows,
                playback.runs,
                sender.acknowledged,
                playback.bad_lines,
                seconds,
                stop.reason,
            )


def _given(option: str, value: str | None) -> str:
    if value is None:
        raise typer.BadParameter("needed for a CSV trace, which does not say it", param_hint=option)
    return value


class _Stop:
    """Whether to stop, and why."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.reason: str | None = None

    def on_signal(self, received: int) -> None:
        if received > 1:
            os._exit(_INTERRUPTED)
        self._stop("interrupted")

    async def when_up_stops(self, settings: Settings) -> None:
        """Stop with the `marlin up` whose embedded broker is in use: it takes nothing with it."""
        from marlin.broker.running import find_running

        if settings.kafka.bootstrap_servers is not None:
            return
        while find_running(settings.home_dir) is not None:
            await asyncio.sleep(_LOOK_S)
        self._stop("`marlin up` is stopping")

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self.event.set()


@contextlib.contextmanager
def _progress(
    playback: Playback, acknowledged: Acknowledged, total_bytes: int, limit: int | None
) -> Generator[Callable[[], None]]:
    console = err()
    columns = (
        TextColumn("replaying"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("[bold]{task.fields[events]:,}[/] events"),
        TextColumn("[cyan]{task.fields[rate]:,.0f}[/]/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("replay", total=limit or total_bytes, events=0, rate=0.0)
        started_s = time.perf_counter()

        def update() -> None:
            elapsed_s = time.perf_counter() - started_s
            progress.update(
                task,
                completed=playback.rows if limit else playback.read_bytes,
                events=acknowledged.usages,
                rate=acknowledged.usages / elapsed_s if elapsed_s else 0.0,
            )

        yield update


def _as_dict(report: _Report) -> dict[str, object]:
    counted = asdict(report.acknowledged)
    return {
        "replay_id": report.replay_id,
        "rows": report.rows,
        "runs": report.runs,
        "events": counted.pop("usages"),
        **counted,
        "bad_lines": report.bad_lines.count,
        "seconds": round(report.seconds, 3),
        "events_per_s": round(report.events_per_s),
        "complete": report.stopped is None,
    }


def _show(report: _Report, files: list[Path]) -> None:
    sent = report.acknowledged
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("events", f"{sent.usages:,}", f"of {', '.join(path.name for path in files)}")
    table.add_row("runs", f"{report.runs:,}", f"{report.replay_id}-…")
    table.add_row("input tokens", f"{sent.input_tokens:,}", "")
    if sent.cache_read_tokens or sent.cache_write_tokens:
        table.add_row("cache reads", f"{sent.cache_read_tokens:,}", "tokens")
        table.add_row("cache writes", f"{sent.cache_write_tokens:,}", "tokens")
    table.add_row("output tokens", f"{sent.output_tokens:,}", "")
    table.add_row("rate", f"{report.events_per_s:,.0f}/s", f"in {report.seconds:.2f} s")
    out().print(table)
    out().print(Text("Event times are those of the trace. See: marlin runs", style="dim"))


def _show_bad_lines(bad: BadLines) -> None:
    if not bad.count:
        return
    console = err()
    console.print(Text(f"{bad.count:,} lines were skipped:", style="yellow"))
    for path, line in bad.first:
        console.print(Text(f"  {path.name}:{line.line}: {line.reason}"), soft_wrap=True)
    if bad.count > len(bad.first):
        console.print(Text(f"  … and {bad.count - len(bad.first):,} more"))
