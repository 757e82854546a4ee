"""The figures as tables, for the terminal and for `docs/performance.md`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from rich.table import Table as RichTable

__all__ = ["Table", "tables"]

NAMES = {
    "marlin": "Marlin",
    "quix": "Quix Streams",
    "faust": "stock Faust",
    "bytewax": "Bytewax",
    "aiokafka": "bare aiokafka + orjson",
    "confluent": "bare confluent-kafka + orjson",
}
FULL_JOB = ("marlin", "bytewax", "quix", "faust")


@dataclass
class Table:
    """A table with a title; cells are text."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=lambda: [])

    def as_rich(self) -> RichTable:
        """For the terminal."""
        table = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """For the page."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [self.columns, rule, *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(figures: dict[str, Any]) -> Iterator[Table]:
    """A table for each part that has figures."""
    makers = {
        "throughput": throughput,
        "scaling": scaling,
        "latency": latency,
        "steps": steps,
        "recovery": recovery,
    }
    for part, measured in figures.items():
        found = measured["figures"]
        if part in makers:
            yield from makers[part](found)
        else:
            yield plain(part, found)


def throughput(found: dict[str, Any]) -> Iterator[Table]:
    """Contestants, the full job first."""
    table = Table(
        f"Throughput of the full job on one core, {_broker(found)}",
        [
            "",
            "events/s",
            "lowest - highest",
            "Marlin is",
            "CPU µs/event",
            "Marlin is",
            "broker µs/event",
        ],
    )
    medians = found["medians"]
    marlin = medians.get("marlin")
    for name in (*FULL_JOB, "aiokafka", "confluent"):
        one = medians.get(name)
        if one is None:
            table.rows.append([NAMES[name], "did not run", *[""] * 5])
            continue
        by_wall = by_cpu = ""
        if marlin and name != "marlin":
            by_wall = f"{marlin['per_s'] / one['per_s']:.2f}x"
            by_cpu = f"{one['cpu_us'] / marlin['cpu_us']:.2f}x"
        table.rows.append(
            [
                NAMES[name],
                count(one["per_s"]),
                f"{count(one['per_s_low'])} - {count(one['per_s_high'])}",
                by_wall,
                f"{one['cpu_us']:.2f}",
                by_cpu,
                f"{one['broker_cpu_us']:.2f}" if "broker_cpu_us" in one else "",
            ]
        )
    yield table


def scaling(found: dict[str, Any]) -> Iterator[Table]:
    """One table a sweep; rates are compared with the sweep's first row, runs with 1,000."""
    titles = {
        "workers": "Workers",
        "partitions": "Partitions",
        "runs": "Live runs",
        "agents": "Agents a run",
    }
    for sweep, points in found["sweeps"].items():
        base = points.get("1,000" if sweep == "runs" else next(iter(points)))
        table = Table(
            f"{titles[sweep]}, {_broker(found)}",
            [titles[sweep].lower(), "events/s", "against", "µs/event (CPU)", "memory MB"],
        )
        for label, one in points.items():
            table.rows.append(_point(label, one, base))
            if "few_active_per_s" in one:
                few = one | {"per_s": one["few_active_per_s"], "cpu_us": one["few_active_cpu_us"]}
                table.rows.append(_point(f"{label}, 1,000 of them active", few, base))
        yield table
    if found.get("bytes_per_run"):
        yield Table(
            "Memory of a live run",
            ["", "bytes"],
            [["a live run (4 agents)", count(found["bytes_per_run"])]],
        )


def _point(label: str, one: dict[str, float], base: dict[str, float]) -> list[str]:
    against = f"{one['per_s'] / base['per_s']:.2f}x"
    return [label, count(one["per_s"]), against, f"{one['cpu_us']:.2f}", count(one["rss_mb"])]


def latency(found: dict[str, Any]) -> Iterator[Table]:
    """Loads by rows of kinds."""
    table = Table(
        f"Abort latency in ms, {_broker(found)}",
        ["load, events/s", "from the breaching event to", "p50", "p99", "p99.9", "p99 / floor"],
    )
    for load in found["loads"]:
        floor = load["floor_ms"]
        asked, sent = load["asked_per_s"], load["load"]["per_s"]
        rate = count(asked) if asked else "idle"
        if sent < 0.98 * asked:
            rate += f" (only {count(sent)} sent)"
        if load["lag_events"] > asked:
            rate += f", {count(load['lag_events'])} behind at the end"
        for kind, title in (
            ("floor_ms", "two bare hops (the floor)"),
            ("command_ms", "command read"),
            ("acknowledged_ms", "acknowledgement durable"),
            ("agent_ms", "run told to stop, by the SDK"),
        ):
            one = load[kind]
            if not one:
                table.rows.append([rate, title, "none", "", "", ""])
                continue
            against = "" if kind == "floor_ms" else f"{one['p99'] / floor['p99']:.2f}x"
            cells = [f"{one[share]:.1f}" for share in ("p50", "p99", "p999")]
            table.rows.append([rate, title, *cells, against])
    yield table


def steps(found: dict[str, Any]) -> Iterator[Table]:
    """The worker's steps and their sum."""
    table = Table(
        f"Processor time of each step, batches of {found['batch']:,}", ["step", "µs/event"]
    )
    table.rows += [[step, f"{us:.2f}"] for step, us in found["us"].items()]
    table.rows.append(["sum", f"{found['sum_us']:.2f}"])
    name = "for comparison: orjson.loads alone"
    table.rows.append([name, f"{found[name]:.2f}"])
    yield table


def recovery(found: list[Any]) -> Iterator[Table]:
    """As they come: what was measured and its figures."""
    for one in found:
        yield plain("recovery", one)


def plain(title: str, found: Any, prefix: str = "") -> Table:
    """Any JSON, one row a number."""
    table = Table(title, ["", "figure"])
    for name, value in _leaves(found, prefix):
        table.rows.append([name, value])
    return table


def _leaves(found: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(found, dict):
        for name, value in cast(dict[str, Any], found).items():
            yield from _leaves(value, f"{prefix}{name} ")
    elif isinstance(found, list):
        for number, value in enumerate(cast(list[Any], found)):
            yield from _leaves(value, f"{prefix}{number} ")
    elif isinstance(found, float):
        yield prefix.strip(), f"{found:,.3f}" if abs(found) < 100 else count(found)
    else:
        yield prefix.strip(), count(found) if isinstance(found, int) else str(found)


def count(number: float) -> str:
    """A whole number with thousands apart."""
    return f"{number:,.0f}"


def _broker(found: dict[str, Any]) -> str:
    return {"apache": "Apache Kafka", "embedded": "embedded broker"}[found["broker"]]
