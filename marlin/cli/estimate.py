"""`marlin estimate` and `marlin models`: the estimator by hand."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, err, out, print_json
from marlin.cli.figures import amount, grams, millilitres, watt_hours

if TYPE_CHECKING:
    from marlin.estimation import Estimate, Estimator, ModelSpec, Range

__all__ = ["estimate", "models", "register"]

BAR_CELLS = 40
DEFAULT_TASK = "1000:500"

Provider = Annotated[str, typer.Option(help="Who serves it, for instance `openai` or `bedrock`.")]
Region = Annotated[str, typer.Option(help="Cloud region, grid zone or country.")]
Factors = Annotated[
    Path | None, typer.Option(help="TOML file with models, regions and factors of your own.")
]


def register(app: typer.Typer) -> None:
    """Add `marlin estimate` and `marlin models`."""
    app.command(rich_help_panel="Estimation")(estimate)
    app.command(rich_help_panel="Estimation")(models)


@dataclass(frozen=True, slots=True)
class _Event:
    """The call asked about, as `explain` reads it."""

    model: str
    provider: str
    region: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int


def estimate(
    model: Annotated[str, typer.Argument(help="Model name; any provider's spelling.")],
    provider: Provider = "",
    region: Region = "",
    input_tokens: Annotated[int, typer.Option(min=0, help="Fresh input.")] = 1000,
    cache_read_tokens: Annotated[int, typer.Option(min=0, help="Input from a cache.")] = 0,
    cache_write_tokens: Annotated[int, typer.Option(min=0, help="Input put in a cache.")] = 0,
    output_tokens: Annotated[int, typer.Option(min=0, help="Output with its reasoning.")] = 500,
    hardware: Annotated[str | None, typer.Option(help="Accelerator, if known.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Accelerators, if known.")] = None,
    batch: Annotated[float | None, typer.Option(help="Sequences at a time, if known.")] = None,
    precision: Annotated[str | None, typer.Option(help="Weights, e.g. `fp8`, if known.")] = None,
    factors: Factors = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print the whole derivation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Estimate the energy, carbon and water of one model call.

    Example: `marlin estimate gpt-4o --provider openai --region us-east-1 --output-tokens 300`
    """
    from marlin.estimation import OperatingPoint
    from marlin.estimation import explain as derive

    event = _Event(
        model,
        provider,
        region,
        input_tokens,
        cache_read_tokens,
        cache_write_tokens,
        output_tokens,
    )
    point = OperatingPoint(hardware=hardware, gpus=gpus, batch=batch, precision=precision)
    derivation = derive(
        event,
        estimator=_estimator(factors),
        operating_point=None if point == OperatingPoint() else point,
    )
    if as_json:
        value: dict[str, object] = {**asdict(event), **_flat(derivation.result)}
        if explain:
            value["steps"] = [asdict(step) for step in derivation.steps]
            value["meaning"] = dict(derivation.codes)
        print_json(value)
    elif explain:
        out().print(Text(str(derivation)), soft_wrap=True)
    else:
        _print_estimate(derivation.result, dict(derivation.codes))


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Models to compare; without `--compare`, words to search for."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare the models on one task.")
    ] = False,
    task_tokens: Annotated[
        str,
        typer.Option(
            help="The task compared: `INPUT:OUTPUT` tokens, or one number, two thirds of it input."
        ),
    ] = DEFAULT_TASK,
    provider: Provider = "",
    region: Region = "",
    factors: Factors = None,
    as_json: AsJson = False,
) -> None:
    """List the models that Marlin knows, or compare some on one task.

    Example: `marlin models --compare small-7b medium-13b large-70b --task-tokens 2000:800`
    """
    estimator = _estimator(factors)
    if not compare:
        _print_catalogue(_matching(estimator, names or []), as_json)
        return
    if not names:
        raise typer.BadParameter("name the models to compare", param_hint="NAMES")
    tokens = parse_task_tokens(task_tokens)
    _print_comparison(estimator, names, tokens, provider, region, as_json)


def parse_task_tokens(text: str) -> tuple[int, int]:
    """Input and output tokens of a task; raises `typer.BadParameter` on anything else."""
    head, colon, tail = text.partition(":")
    try:
        if colon:
            tokens = int(head), int(tail)
        else:
            total = int(head)
            tokens = total - total // 3, total // 3
    except ValueError:
        tokens = -1, -1
    if min(tokens) < 0:
        raise typer.BadParameter(
            f"{text!r} is not INPUT:OUTPUT, for instance 1000:500", param_hint="--task-tokens"
        )
    return tokens


def _estimator(factors: Path | None) -> Estimator:
    from marlin.estimation import Estimator, default_estimator, load_factor_set

    return default_estimator() if factors is None else Estimator(load_factor_set(factors))


def _flat(result: Estimate) -> dict[str, object]:
    """An estimate with the field names that events and tables use."""
    flat: dict[str, object] = {}
    for name, value in asdict(result).items():
        if isinstance(value, dict):
            flat |= {
                name: value["central"],
                f"{name}_low": value["low"],
                f"{name}_high": value["high"],
            }
        else:
            flat[name] = value
    return flat


def _print_estimate(result: Estimate, meanings: dict[str, str]) -> None:
    table = Table("", "central", "low", "high", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, span, shown in (
        ("accelerators", result.gpu_energy_wh, watt_hours),
        ("energy, data centre", result.energy_wh, watt_hours),
        ("carbon, operational", result.carbon_g, grams),
        ("carbon, embodied", result.embodied_g, grams),
        ("water, consumption", result.water_ml, millilitres),
    ):
        table.add_row(label, shown(span.central), shown(span.low), shown(span.high))
    out().print(table)
    out().print(
        f"grid {amount(result.intensity_g_per_kwh)} gCO2e/kWh; {result.method}, {result.factors}",
        style="dim",
    )
    for code, meaning in meanings.items():
        out().print(Text.assemble((f"{code:26}", "yellow"), meaning), soft_wrap=True)


def _matching(estimator: Estimator, words: list[str]) -> list[ModelSpec]:
    found = estimator.factor_set.models.values()
    wanted = [word.lower() for word in words]
    return [
        spec
        for spec in found
        if all(
            any(word in name.lower() for name in (spec.name, spec.vendor, *spec.aliases))
            for word in wanted
        )
    ]


def _print_catalogue(found: list[ModelSpec], as_json: bool) -> None:
    if as_json:
        print_json([{**asdict(spec), "total_params_b": spec.total_b} for spec in found])
        return
    table = Table(
        "model", "vendor", "active", "total", "size", "status", box=None, header_style="bold"
    )
    for column in (2, 3):
        table.columns[column].justify = "right"
    for spec in found:
        size = "published"
        if spec.params_low < 1 or spec.params_high > 1:
            size = f"x{spec.params_low:g} to x{spec.params_high:g}"
        table.add_row(
            spec.name,
            spec.vendor,
            f"{amount(spec.active_params_b)} B",
            f"{amount(spec.total_b)} B",
            size,
            "[dim]retired[/]" if spec.status == "retired" else spec.status,
        )
    out().print(table)
    err().print(f"models: {len(found)}", style="dim")


def _print_comparison(
    estimator: Estimator,
    names: list[str],
    tokens: tuple[int, int],
    provider: str,
    region: str,
    as_json: bool,
) -> None:
    from marlin.estimation import estimate as estimate_call

    results = {
        name: estimate_call(
            name,
            provider=provider,
            region=region,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            estimator=estimator,
        )
        for name in dict.fromkeys(names)
    }
    if as_json:
        task = {"input_tokens": tokens[0], "output_tokens": tokens[1]}
        print_json([{"model": name, **task, **_flat(one)} for name, one in results.items()])
        return
    table = Table("model", "energy", "carbon", "embodied", "water", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, one in results.items():
        table.add_row(
            name,
            watt_hours(one.energy_wh.central),
            grams(one.carbon_g.central),
            grams(one.embodied_g.central),
            millilitres(one.water_ml.central),
        )
    out().print(f"one task of {tokens[0]} input and {tokens[1]} output tokens\n")
    out().print(table)
    out().print("\ncarbon, operational: █ central, ─ low to high, logarithmic", style="dim")
    spans = {name: one.carbon_g for name, one in results.items()}
    width = max(map(len, spans))
    for name, line in bars(spans).items():
        central = grams(spans[name].central)
        out().print(Text.assemble(f"{name:{width}} ", (line, "green"), f" {central}"))


def bars(spans: dict[str, Range]) -> dict[str, str]:
    """One line a name: its range on a logarithmic axis that all share, its central value marked.

    A value of zero, which only a call without tokens or a grid without carbon has, is blank.
    """
    positive = [span for span in spans.values() if span.low > 0]
    if not positive:
        return dict.fromkeys(spans, " " * BAR_CELLS)
    least = math.log(min(span.low for span in positive))
    length = max(math.log(max(span.high for span in positive)) - least, 1e-9)

    def cell(value: float) -> int:
        # A hair more, or rounding puts whole decades one cell to the left.
        return min(BAR_CELLS - 1, int((math.log(value) - least) / length * BAR_CELLS + 1e-9))

    lines: dict[str, str] = {}
    for name, span in spans.items():
        line = [" "] * BAR_CELLS
        if span.low > 0:
            low, central, high = cell(span.low), cell(span.central), cell(span.high)
            line[low : high + 1] = "─" * (high - low + 1)
            line[central] = "█"
        lines[name] = "".join(line)
    return lines
