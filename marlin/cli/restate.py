"""`marlin restate`: history by other factors, as adjustments beside it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, err, out, print_json
from marlin.cli.figures import grams, millilitres, watt_hours

if TYPE_CHECKING:
    from marlin.restatement import Restatement
    from marlin.restatement.difference import Change
    from marlin.settings import Settings

__all__ = ["register"]

_SHOWN_LINES = 12
_SHOW = {
    "energy_wh": ("energy", watt_hours),
    "carbon_g": ("carbon", grams),
    "embodied_g": ("embodied", grams),
    "water_ml": ("water", millilitres),
}


def register(app: typer.Typer) -> None:
    """Add `marlin restate`."""
    app.command(rich_help_panel="Results")(restate)


def restate(
    factors: Annotated[
        str,
        typer.Option(
            help="What to estimate with: `shipped`, a version in factor_sets, or a folder or file "
            "of factors."
        ),
    ],
    period: Annotated[
        str, typer.Option(help="2026-05, 2026-Q2, 2026, or first and last day: FROM..TO (UTC).")
    ],
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant.", show_default=False)
    ] = None,
    reason: Annotated[
        str, typer.Option(help="Why, for the record and the reports.")
    ] = "other factors",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the difference; write nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Cover what the ledger still holds when rows were removed."),
    ] = False,
    as_json: AsJson = False,
    database: Annotated[
        Path | None,
        typer.Option(help="Another database than the configured one.", show_default=False),
    ] = None,
) -> None:
    """Estimate recorded calls again with other factors, as adjustments beside what was recorded.

    Shows the difference, then asks before it writes. What was recorded never changes: reports
    state it, the adjustments, and both together. Works while the pipeline runs.

    Example: `marlin restate --factors shipped --period 2026-05 --dry-run`
    """
    from marlin.cli.settings import load_settings
    from marlin.restatement.handing import hand_over, refuse_lake

    settings = load_settings()
    if database is not None:
        sink = settings.sink.model_copy(update={"database": database})
        settings = settings.model_copy(update={"sink": sink})
    refuse_lake(settings)
    computed = _compute(settings, factors, period, tenant, reason, partial=partial)
    changes_something = computed.adjustments.num_rows > 0
    if not as_json:
        _print(computed)
    write = changes_something and not dry_run and (yes or _agreed(as_json=as_json))
    if write:
        hand_over(computed, settings)
    if as_json:
        print_json(_as_dict(computed, written=write))
    elif write:
        _tell_written(computed)
    elif changes_something:
        err().print("nothing was written")


def _compute(
    settings: Settings, factors: str, period: str, tenant: str | None, reason: str, *, partial: bool
) -> Restatement:
    from marlin.estimation.estimator import Estimator
    from marlin.reports.period import parse_period
    from marlin.restatement import compute
    from marlin.restatement.choice import choose_factors
    from marlin.restatement.handing import AskingReader
    from marlin.restatement.late_grid import newest_grid

    days = parse_period(period)
    start = datetime.combine(days.start, time(), UTC)
    end = datetime.combine(days.end, time(), UTC)
    reader = AskingReader(settings)
    factor_set, content = choose_factors(factors, reader)
    with Progress(
        TextColumn("estimating again"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("calls"),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)
        return compute(
            reader,
            estimator=Estimator(factor_set, grid=newest_grid(reader, start, end)),
            reason=reason.strip() or "other factors",
            period_start=start,
            period_end=end,
            tenant=tenant,
            content=content,
            partial=partial,
            progress=lambda done, calls: bar.update(task, completed=done, total=calls),
        )


def _agreed(*, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        raise typer.BadParameter("give --yes to write, or --dry-run to look")
    return typer.confirm("Write these adjustments?", err=True)


def _print(restatement: Restatement) -> None:
    from marlin.restatement.difference import changes_of, total_of

    console = out()
    lines = changes_of(restatement)
    changed = sum(line.calls for line in lines)
    console.print(
        Text(
            f"{restatement.calls:,} calls estimated again with {restatement.factors} "
            f"({restatement.method}), {changed:,} of them change"
        ),
        soft_wrap=True,
    )
    if not lines:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("model", "region", "quantity"):
        table.add_column(name)
    for name in ("old", "low to high", "new", "low to high", "difference", "%"):
        table.add_column(name, justify="right")
    for line in lines[:_SHOWN_LINES]:
        _add(table, line.model, line.region or "(none)", line.changes)
    _add(table, "all that change", "", total_of(lines), style="bold")
    console.print(table)
    if len(lines) > _SHOWN_LINES:
        left_out = f"{len(lines) - _SHOWN_LINES} smaller lines are in the sums; --json has them"
        console.print(Text(left_out, style="dim"))


def _add(
    table: Table, model: str, region: str, changes: dict[str, Change], style: str | None = None
) -> None:
    for number, (name, change) in enumerate(changes.items()):
        label, spell = _SHOW[name]
        share = "-" if change.share is None else f"{change.share * 100:+.1f}"
        signed = ("+" if change.difference > 0 else "") + spell(change.difference)
        table.add_row(
            *((Text(model), Text(region)) if number == 0 else ("", "")),
            label,
            *(spell(change.old[0]), f"{spell(change.old[1])} to {spell(change.old[2])}"),
            *(spell(change.new[0]), f"{spell(change.new[1])} to {spell(change.new[2])}"),
            *(signed, share),
            style=style,
        )


def _tell_written(restatement: Restatement) -> None:
    console = out()
    rows = restatement.adjustments.num_rows
    console.print(Text(f"{restatement.restatement_id}: {rows:,} adjustments written"))
    console.print(
        Text(
            'see it with: marlin sql "FROM restatement_summary WHERE restatement_id = '
            f"'{restatement.restatement_id}'\"",
            style="dim",
        ),
        soft_wrap=True,
    )


def _as_dict(restatement: Restatement, *, written: bool) -> dict[str, Any]:
    from marlin.restatement.difference import changes_of, total_of

    lines = changes_of(restatement)
    return {
        "restatement_id": restatement.restatement_id if written else None,
        "written": written,
        "adjustments": restatement.adjustments.num_rows,
        "calls": restatement.calls,
        "changed_calls": sum(line.calls for line in lines),
        "method": restatement.method,
        "factors": restatement.factors,
        "period_start": restatement.period_start.isoformat(),
        "period_end": restatement.period_end.isoformat(),
        "tenant": restatement.tenant,
        "reason": restatement.reason,
        "total": {name: change.to_dict() for name, change in total_of(lines).items()},
        "lines": [line.to_dict() for line in lines],
    }
