"""`marlin runs`: what runs spend and how they ended."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, out
from marlin.cli.figures import budget_bar, grams, milliseconds, moment, spread, status

__all__ = ["register"]

_OUTCOMES = {"stopped": "stopped", "already_finished": "had ended", "refused": "refused"}

_WIDE = 120
"""Terminal columns from which on everything fits."""

_SQL = """
SELECT run_id, status, reason, calls, input_tokens, output_tokens,
       carbon_g, carbon_g_low, carbon_g_high, energy_wh, water_ml,
       CASE WHEN enable_environmental THEN carbon_budget_g END AS carbon_budget_g,
       CASE bound WHEN 'low' THEN carbon_g_low WHEN 'high' THEN carbon_g_high ELSE carbon_g END
           AS spent_g,
       command_id, command_reason, aborted_at AS commanded_at,
       CASE WHEN command_id IS NULL THEN NULL
            WHEN ack_outcome IS NOT NULL THEN 'acknowledged'
            WHEN escalated_at IS NOT NULL THEN 'escalated'
            ELSE 'unacknowledged' END AS acknowledgement,
       ack_outcome, stopped_at, escalated_at, overshoot_g, overshoot_ms,
       project, coalesce(started_at, first_event_time) AS started_at, finished_at
FROM runs
WHERE $1 IS NULL OR status = $1
ORDER BY started_at DESC NULLS LAST, run_id
LIMIT $2
"""


class Status(str, Enum):  # noqa: UP042  typer reads the values of a str enum
    """How runs stand."""

    RUNNING = "running"
    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"


def register(app: typer.Typer) -> None:
    """Add `marlin runs`."""
    group = typer.Typer()
    group.callback(invoke_without_command=True)(runs)
    group.command()(export)
    app.add_typer(group, name="runs", rich_help_panel="Runs")


def runs(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the latest first.")] = 20,
    status: Annotated[Status | None, typer.Option(help="Only runs that stand so.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs: status, carbon with its range, budget, aborts and how they were obeyed.

    An abort is acknowledged (with what was spent and how long it took beyond the budget),
    unacknowledged, or escalated: unacknowledged beyond MARLIN_WORKER__ABORT_DEADLINE_S.

    Example: `marlin runs --status aborted`
    """
    if context.invoked_subcommand is not None:
        return
    from marlin.cli.settings import load_settings
    from marlin.query import query

    chosen = status.value if status else None
    result = query(_SQL, [chosen, limit], settings=load_settings())
    if as_json:
        print(result.to_json(), flush=True)
    elif result.rows:
        console = out()
        console.print(_table(result.to_dicts(), wide=console.width >= _WIDE))
    else:
        what = f"{chosen} runs" if chosen else "runs"
        out().print(Text(f"There are no {what} yet. Try: marlin replay, or an agent of your own"))


def export(
    run: Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a run's accounts as CSV, or its whole report as JSON.

    Example: `marlin runs export RUN --output run.csv`
    """
    from marlin.cli.report import write_out
    from marlin.cli.settings import load_settings
    from marlin.reports import ESGReporter

    reporter = ESGReporter(load_settings())
    write_out(reporter.generate(run_id=run, format="json" if as_json else "csv"), output)


def _table(found: list[dict[str, Any]], *, wide: bool) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("carbon", justify="right", no_wrap=True)
    table.add_column("budget", no_wrap=True)
    table.add_column("over by", justify="right", no_wrap=True)
    table.add_column("abort", overflow="fold")
    if wide:
        table.add_column("range", justify="right", style="dim", no_wrap=True)
        table.add_column("calls", justify="right", no_wrap=True)
        table.add_column("started (UTC)", no_wrap=True)
        table.add_column("reason", style="dim")
    for run in found:
        over_g = run["overshoot_g"]
        cells: list[RenderableType] = [
            Text(run["run_id"]),
            status(run["status"]),
            grams(run["carbon_g"]),
            budget_bar(run["spent_g"], run["carbon_budget_g"]),
            Text(grams(over_g) if over_g else "", style="red"),
            _abort(run),
        ]
        if wide:
            cells += [
                spread(run["carbon_g_low"], run["carbon_g_high"]),
                f"{run['calls']:,}",
                moment(run["started_at"]),
                Text(run["reason"] or ""),
            ]
        table.add_row(*cells)
    return table


def _abort(run: dict[str, Any]) -> Text:
    """How a run's abort stands; empty where none was commanded."""
    match run["acknowledgement"]:
        case None:
            return Text("")
        case "acknowledged":
            text = Text(_OUTCOMES[run["ack_outcome"]], style="green")
            if run["overshoot_ms"] is not None and run["ack_outcome"] == "stopped":
                text.append(f" in {milliseconds(run['overshoot_ms'])}")
            return text
        case "escalated":
            return Text(f"escalated {run['escalated_at']:%H:%M:%S}", style="bold red")
        case _:
            return Text(f"unacknowledged since {run['commanded_at']:%H:%M:%S}", style="yellow")
