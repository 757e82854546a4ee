"""What `marlin demo` shows: progress while the fleet runs, then the summary."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from marlin.cli.demo_report import DemoReport
from marlin.cli.figures import amount, budget_bar, grams, millilitres, spread, watt_hours

__all__ = ["Progress", "show_summary"]

_WIDE = 120
"""Terminal columns from which on everything fits."""

_BAR_WIDTH = 30
_AGENT_BAR_CELLS = 20


@dataclass(slots=True)
class Progress:
    """Where the fleet is. A renderable: what it shows is what it holds at that moment."""

    runs: int
    finished: int = 0
    aborted: int = 0
    calls: int = 0
    carbon_g: float = 0.0
    stored_calls: int = 0
    """Model calls that DuckDB has."""
    stored_carbon_g: float = 0.0
    last: str = ""
    """The last thing that happened to a run."""

    def __rich__(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column(width=_BAR_WIDTH)
        grid.add_column()
        grid.add_row(
            "runs", _bar(self.finished, self.runs), f"{self.finished} of {self.runs} finished"
        )
        grid.add_row(
            "events",
            _bar(self.stored_calls, max(self.calls, 1)),
            f"{self.calls} sent, {self.stored_calls} in DuckDB",
        )
        grid.add_row(
            "carbon",
            _bar(self.stored_carbon_g, max(self.carbon_g, 1e-9)),
            f"{grams(self.carbon_g)}CO2e spent, {grams(self.stored_carbon_g)} in DuckDB",
        )
        grid.add_row(
            "aborts",
            _bar(self.aborted, self.runs, "red"),
            Text(f"{self.aborted} stopped by their budget", style="red" if self.aborted else ""),
        )
        return Group(grid, Text(self.last, style="dim"))


def _bar(done: float, total: float, colour: str = "cyan") -> ProgressBar:
    return ProgressBar(
        total=total, completed=min(done, total), width=_BAR_WIDTH, complete_style=colour
    )


def show_summary(console: Console, report: DemoReport, database: str) -> None:
    """Print the summary; every number comes from `report`."""
    wide = console.width >= _WIDE
    console.print(_headline(report))
    aborted = report.with_status("aborted")
    if aborted:
        reasons = ", ".join(sorted({run["reason"] or "no reason" for run in aborted}))
        console.print(_title(f"Aborted runs: {reasons}"), _aborted(report, wide=wide))
    console.print(_title("Carbon by agent"), _agents(report, wide=wide))
    console.print(_title("Energy by model"), _models(report))
    console.print(_title("Look for yourself"))
    console.print(f"  DuckDB   [bold]{database}[/]", soft_wrap=True, highlight=False)
    sql = '"SELECT run_id, status, carbon_g, carbon_budget_g FROM runs ORDER BY carbon_g DESC"'
    console.print(
        Text(f"  marlin sql --database {shlex.quote(database)} \\\n    {sql}", style="cyan"),
        soft_wrap=True,
    )


def _title(text: str) -> Padding:
    return Padding(Text(text, style="bold"), (1, 0, 0, 0))


def _headline(report: DemoReport) -> Panel:
    low_g, high_g = report.total("carbon_g_low"), report.total("carbon_g_high")
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="bold")
    grid.add_column()
    grid.add_row(
        "runs",
        Text.assemble(
            f"{len(report.runs)}: ",
            (f"{len(report.with_status('completed'))} completed", "green"),
            ", ",
            (f"{len(report.with_status('aborted'))} aborted", "red"),
        ),
    )
    grid.add_row("events", f"{report.events} model calls, {len(report.commands)} abort commands")
    grid.add_row(
        "carbon",
        Text.assemble(
            (f"{grams(report.total('carbon_g'))}CO2e", "bold"),
            (f"   range {spread(low_g, high_g)}", "dim"),
        ),
    )
    grid.add_row("energy", watt_hours(report.total("energy_wh")))
    grid.add_row("water", millilitres(report.total("water_ml")))
    return Panel(
        grid,
        title="What the fleet cost the climate",
        title_align="left",
        expand=False,
        border_style="green",
    )


def _aborted(report: DemoReport, *, wide: bool) -> Table:
    table = _table(("run", "left"), ("budget", "left"), ("over by", "right"))
    if wide:
        table.add_column("workflow", no_wrap=True)
        table.add_column("runtime", style="dim", no_wrap=True)
    for run in report.with_status("aborted"):
        more = (
            f"{run['project']}: {run['task']}",
            run["ack_outcome"] or "not acknowledged",
        )
        table.add_row(
            run["run_id"],
            budget_bar(run["carbon_g"], run["carbon_budget_g"]),
            Text(grams(run["overshoot_g"] or 0.0), style="red"),
            *(more if wide else ()),
        )
    return table


def _agents(report: DemoReport, *, wide: bool) -> Table:
    table = _table(
        ("workflow", "left"),
        ("agent", "left"),
        ("calls", "right"),
        ("tokens", "right"),
        ("carbon", "right"),
        ("range", "right"),
    )
    if wide:
        table.add_column("energy", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    most_g = max((agent["carbon_g"] for agent in report.agents), default=0.0)
    for agent in report.agents:
        cells = round(_AGENT_BAR_CELLS * agent["carbon_g"] / most_g) if most_g else 0
        more = (watt_hours(agent["energy_wh"]), Text("█" * cells, style="cyan"))
        table.add_row(
            agent["project"],
            agent["agent_id"],
            f"{agent['calls']}",
            f"{agent['tokens']:,}",
            grams(agent["carbon_g"]),
            Text(spread(agent["carbon_g_low"], agent["carbon_g_high"]), style="dim"),
            *(more if wide else ()),
        )
    return table


def _models(report: DemoReport) -> Table:
    table = _table(
        ("model", "left"),
        ("calls", "right"),
        ("tokens", "right"),
        ("energy", "right"),
        ("Wh per 1,000 tokens", "right"),
        ("carbon", "right"),
    )
    for model in report.models:
        per_thousand_wh = 1000 * model["energy_wh"] / model["tokens"] if model["tokens"] else 0.0
        table.add_row(
            model["model"],
            f"{model['calls']}",
            f"{model['tokens']:,}",
            watt_hours(model["energy_wh"]),
            amount(per_thousand_wh),
            grams(model["carbon_g"]),
        )
    return table


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=True)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table
