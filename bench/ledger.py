"""How long the views take over a large ledger, and how large it is on disk.

    python bench/ledger.py [--events 5000000] [--keep FILE] [--json]

A year of calls, made in the database by SQL and stored by the statements that the sink uses, in
batches. With `--keep` the file stays, and is used again if it is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from marlin.settings import SinkSettings
from marlin.sinks import merge
from marlin.sinks.database import open_database
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.measures import FOOTPRINT

BATCH_EVENTS = 2_500_000
CALLS_PER_RUN = 25
REPEATS = 5
BUILDING = SinkSettings(memory_limit_bytes=6 * 1024**3, threads=2)

QUERIES = {
    "run_summary, the 20 largest": "FROM run_summary ORDER BY carbon_g DESC LIMIT 20",
    "run_summary, one run": "FROM run_summary WHERE run_id = md5('17')",
    "agent_summary, one run": "FROM agent_summary WHERE run_id = md5('17')",
    "agent_summary, the 20 largest": "FROM agent_summary ORDER BY energy_wh DESC LIMIT 20",
    "daily_footprint, all": "FROM daily_footprint",
    "model_comparison": "FROM model_comparison",
    "scope3_category1, all": "FROM scope3_category1",
    "scope3_category1, a month": "FROM scope3_category1 WHERE period_start = DATE '2026-03-01'",
    "budget_breaches, the latest 100": "FROM budget_breaches ORDER BY issued_at DESC LIMIT 100",
    "data_quality": "FROM data_quality",
    "hourly_zone_energy, a day": "FROM hourly_zone_energy WHERE hour >= '2026-03-01 00:00:00+00' "
    "AND hour < '2026-03-02 00:00:00+00'",
    "hourly_zone_energy, all": "FROM hourly_zone_energy",
}

# Projects use one region and three models each; four out of five calls are of the first one.
_CALLS = """
CREATE OR REPLACE TEMP TABLE calls AS
SELECT i, i // $calls_per_run AS run, (hash(i // $calls_per_run) % 100)::BIGINT AS account,
    (hash(i) % (1 + i // $calls_per_run % 5))::BIGINT AS agent,
    ((account * 7 + CASE hash(i, 1) % 5 WHEN 0 THEN 1 + hash(i, 2) % 2 ELSE 0 END) % 12)::BIGINT
        AS model,
    exp(2.0 * random() - 1.0) * (1 + model) * 0.2 AS wh, random() AS chance
FROM range($first, $last) AS r(i)
"""
_USAGES = """
CREATE OR REPLACE TEMP TABLE batch_usages AS
SELECT
    run || '-' || i AS event_id, md5(run::VARCHAR) AS run_id, 'agent-' || agent AS agent_id,
    'runtime-' || run % 64 AS producer_id, i % $calls_per_run AS seq,
    TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_microseconds(i * $gap_us) AS time,
    ['openai', 'anthropic', 'google', 'mistral'][1 + model % 4] AS provider,
    'model-' || model AS model,
    ['us-east-1', 'eu-west-1', 'ap-southeast-1', 'us-west-2', 'DE', ''][1 + account % 6] AS region,
    (200 + chance * 8000)::BIGINT AS input_tokens, (chance * 2000)::BIGINT AS cache_read_tokens,
    0::BIGINT AS cache_write_tokens, (20 + chance * 900)::BIGINT AS output_tokens,
    (chance * 15)::BIGINT AS reasoning_tokens,
    round(0.5 + 10 * chance, 3) AS latency_s, round(chance / 50, 6) AS cost_usd,
    'tenant-' || account % 20 AS tenant, 'project-' || account AS project,
    NULL::VARCHAR AS labels, CASE WHEN chance < 0.01 THEN 'partial' ELSE 'reported' END
        AS usage_quality,
    {footprint},
    400.0 + account % 6 AS intensity_g_per_kwh, 'm1' AS method,
    CASE WHEN i < $half THEN 'f1' ELSE 'f2' END AS factors,
    list_distinct([['parameters_undisclosed', 'hardware_assumed', 'model_unknown'][1 + model % 3],
        CASE WHEN account % 6 = 5 THEN 'region_world' ELSE 'region_zone' END]) AS quality,
    'bench' AS source_topic, (run % 8)::INTEGER AS source_partition, i AS source_offset,
    0 AS source_id
FROM calls
"""
_SCALES = {"energy_wh": "1.0", "carbon_g": "0.4", "embodied_g": "0.04", "water_ml": "1.8"}
_ENDS = {"": "1.0", "_low": "0.4", "_high": "2.5"}
_COMMANDS = """
INSERT INTO commands BY NAME
SELECT md5(run_id) AS command_id, run_id, 'abort' AS action, 'carbon_budget_exceeded' AS reason,
    5.0 AS budget_g, 5.1 AS spent_g, last_event_time AS issued_at, 'stopped' AS outcome,
    last_event_time AS stopped_at, 0.2 AS overshoot_g, 180.0 AS overshoot_ms
FROM runs WHERE hash(run_id) % 50 = 0
"""


def _footprint() -> str:
    return ", ".join(
        f"wh * {_SCALES[quantity]} * {end} AS {quantity}{suffix}"
        for quantity in _SCALES
        for suffix, end in _ENDS.items()
        if quantity + suffix in FOOTPRINT
    )


def build(path: Path, events: int) -> None:
    """Make the ledger. It has its name only when it is whole."""
    made = path.with_suffix(".making")
    made.unlink(missing_ok=True)
    DuckDBSink(made, limits=BUILDING).close()
    with open_database(made, limits=BUILDING) as connection:
        for first in range(0, events, BATCH_EVENTS):
            _add(connection, first, min(first + BATCH_EVENTS, events), events)
            print(f"{first + BATCH_EVENTS:,} of {events:,}", file=sys.stderr, flush=True)
        connection.execute(_COMMANDS)
    made.replace(path)


def _add(connection: duckdb.DuckDBPyConnection, first: int, last: int, events: int) -> None:
    year_us = 365 * 86_400 * 1_000_000
    connection.execute(_CALLS, {"first": first, "last": last, "calls_per_run": CALLS_PER_RUN})
    connection.execute(
        _USAGES.replace("{footprint}", _footprint()),
        {"calls_per_run": CALLS_PER_RUN, "gap_us": year_us // events, "half": events // 2},
    )
    connection.begin()
    for statement in (
        merge.INSERT_EVENTS,
        merge.MERGE_RUNS,
        merge.MERGE_AGENTS,
        merge.MERGE_HOURLY,
        merge.MERGE_DAILY,
    ):
        connection.execute(statement)
    connection.commit()


def sizes(path: Path) -> dict[str, Any]:
    """Rows of each table, and bytes on disk."""
    with open_database(path, read_only=True) as connection:
        rows: dict[str, Any] = {}
        for table in ("events", "runs", "agents", "hourly", "daily", "commands"):
            counted = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            rows[table] = counted[0] if counted else 0
    return {"rows": rows, "gb": round(path.stat().st_size / 1e9, 3)}


def time_queries(path: Path, threads: int) -> dict[str, dict[str, float]]:
    """Median and first time of each query [s], with the default limits but for `threads`."""
    times: dict[str, dict[str, float]] = {}
    for name, sql in QUERIES.items():
        # Opened anew: the first time is that of a process that has read nothing yet.
        with open_database(
            path, read_only=True, limits=SinkSettings(threads=threads)
        ) as connection:
            taken = [_timed(connection, sql) for _ in range(1 + REPEATS)]
        times[name] = {
            "median_s": round(statistics.median(taken[1:]), 4),
            "first_s": round(taken[0], 4),
        }
    return times


def _timed(connection: duckdb.DuckDBPyConnection, sql: str) -> float:
    began_s = time.perf_counter()
    connection.execute(sql).to_arrow_table()  # pyright: ignore[reportUnknownMemberType]
    return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder) / "ledger.duckdb"
        built_s = 0.0
        if not path.exists():
            began_s = time.perf_counter()
            build(path, options.events)
            built_s = time.perf_counter() - began_s
        found: dict[str, Any] = {"built_s": round(built_s, 1), **sizes(path)}
        found["queries"] = {
            f"{threads} threads": time_queries(path, threads) for threads in options.threads
        }
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['rows']} in {found['gb']} GB, made in {found['built_s']} s")
    for threads, times in found["queries"].items():
        for name, one in times.items():
            print(
                f"{threads}  {name:34} {one['median_s'] * 1000:8.1f} ms"
                f"   first {one['first_s'] * 1000:8.1f} ms"
            )


if __name__ == "__main__":
    main()
