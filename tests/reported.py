"""A database that reports are made of: filled by the real sink with real estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from marlin.estimation import default_estimator
from marlin.settings import Settings, SinkSettings
from marlin.sinks.conformance import (
    Recorded,
    acknowledged,
    batch_of,
    carbon,
    command,
    finished,
    identity,
    started,
)
from marlin.sinks.duckdb_sink import DuckDBSink

__all__ = ["MAY", "Call", "calls", "estimated", "fill", "restate", "settings_of"]

MAY = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Call:
    """Who called what, where and when."""

    run: str
    at: datetime
    tenant: str | None
    provider: str
    model: str
    region: str
    tokens: int
    quality: str = "reported"


_KINDS = (
    ("acme", "openai", "gpt-4o", "us-east-1"),
    ("acme", "aws-bedrock", "llama-3.3-70b", "us-west-2"),
    ("globex", "google", "gemini-2.5-flash", "us-west2"),
    ("globex", "azure", "gpt-5", "westeurope"),
    (None, "anthropic", "claude-sonnet-4", "eu-west-1"),
    ("acme", "mistral", "mistral-large-2", "FR"),
    ("globex", "nobody", "no-such-model", "mars-north-1"),
)


def calls() -> list[Call]:
    """Three months of calls: 7 kinds, each in runs of its own that stay within their month."""
    found: list[Call] = []
    for day in range(0, 90, 2):
        at = datetime(2026, 4, 15, 9, tzinfo=UTC) + timedelta(days=day)
        for kind, (tenant, provider, model, region) in enumerate(_KINDS):
            for step in range(2):
                found.append(
                    Call(
                        f"run-{day:02}-{kind}",
                        at + timedelta(minutes=17 * step),
                        tenant,
                        provider,
                        model,
                        region,
                        900 + 137 * kind + 31 * day,
                        "missing" if (kind, step) == (4, 1) and day % 10 == 0 else "reported",
                    )
                )
    return found


def estimated(offset: int, call: Call) -> Recorded:
    """The carbon record that the worker would write for a call."""
    coefficients = default_estimator().coefficients(call.model, call.provider, call.region)
    tokens = 0 if call.quality == "missing" else call.tokens
    values = coefficients.ranged(tokens, 0, 0, tokens // 3)
    names = [
        f"{name}{end}"
        for name in ("energy_wh", "carbon_g", "embodied_g", "water_ml")
        for end in ("", "_low", "_high")
    ]
    fields: dict[str, Any] = dict(zip(names, values, strict=True))
    return carbon(
        offset,
        run_id=call.run,
        producer_id=f"producer-{offset}",
        seq=0,
        time=call.at,
        tenant=call.tenant,
        project=None,
        provider=call.provider,
        model=call.model,
        region=call.region,
        input_tokens=tokens,
        cache_read_tokens=0,
        cache_write_tokens=0,
        output_tokens=tokens // 3,
        reasoning_tokens=0,
        usage_quality=call.quality,
        intensity_g_per_kwh=coefficients.intensity_g_per_kwh,
        method=coefficients.method,
        factors=coefficients.factors,
        quality=coefficients.codes,
        **fields,
    )


def fill(path: Path, records: Sequence[Recorded] | None = None) -> Settings:
    """A database of `records`, by default of `calls`; the settings that name it."""
    if records is None:
        found = [estimated(offset, call) for offset, call in enumerate(calls())]
        first = len(found)
        run = "run-20-0"
        records = [
            *found,
            started(first, run_id=run, tenant="acme", time=MAY + timedelta(days=4)),
            command(at=0, run_id=run, issued_at=MAY + timedelta(days=4, hours=9)),
            acknowledged(first + 1, run_id=run),
            finished(first + 2, run_id=run, status="aborted"),
        ]
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(*records))
    return settings_of(path)


def settings_of(path: Path) -> Settings:
    """Settings whose database is `path`."""
    return Settings(home=path.parent, sink=SinkSettings(database=path))


def restate(path: Path, number: int, at: datetime, factor: float, where: str = "true") -> None:
    """Write a restatement of some calls, straight into the tables: all figures times `factor`."""
    measures = [
        f"{name}{end}"
        for name in ("energy_wh", "carbon_g", "embodied_g", "water_ml")
        for end in ("", "_low", "_high")
    ]
    old = ", ".join(f"sum({name}) AS old_{name}" for name in measures)
    new = ", ".join(f"sum({name} * {factor}) AS new_{name}" for name in measures)
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "INSERT INTO restatements VALUES (?, 'factors', 'better factors', 'm2', 'f2', "
            "'2026-01-01', '2027-01-01', NULL, 1, NULL, '0.1.0', ?)",
            [f"restatement-{number}", at],
        )
        connection.execute(
            f"INSERT INTO adjustments BY NAME SELECT 'restatement-{number}' AS restatement_id, "
            "date_trunc('hour', event_time) AS hour, run_id, agent_id, tenant, project, provider, "
            "model, region, usage_quality, array_to_string(quality, ',') AS old_codes, "
            "method AS old_method, factors AS old_factors, 'region_zone' AS new_codes, "
            "'m2' AS new_method, 'f2' AS new_factors, count(*) AS calls, "
            f"{old}, {new} FROM events WHERE {where} GROUP BY ALL"
        )
