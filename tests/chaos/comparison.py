"""Every account of what happened, held against the ledger, run by run and agent by agent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
from pipeline import read_all

from chaos.ledger import Ledger, Sums
from marlin.budget import REASON, is_breached, reached_warnings, warn_cause
from marlin.estimation import default_estimator
from marlin.schemas import CARBON_RECORDS, Carbon, Command, Policy, Usage
from marlin.settings import Settings
from marlin.streams.partition import Partition
from marlin.streams.totals import Totals, footprint
from marlin.topics import Topics

__all__ = ["Accounts", "differences", "gather"]

_NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Accounts:
    """What the topics and the database say."""

    def __init__(self) -> None:
        self.carbon_runs: dict[str, Sums] = {}
        self.carbon_agents: dict[tuple[str, str], Sums] = {}
        self.carbon_sources: dict[str, list[str]] = defaultdict(list)
        self.table_runs: dict[str, Sums] = {}
        self.table_agents: dict[tuple[str, str], Sums] = {}
        self.commands: Counter[tuple[str, str]] = Counter()
        """Distinct commands per run and reason."""
        self.sql_events: dict[str, Sums] = {}
        self.sql_runs: dict[str, Sums] = {}
        self.sql_agents: dict[tuple[str, str], Sums] = {}
        self.sql_commands: Counter[tuple[str, str]] = Counter()
        self.sql_hourly_calls = 0
        self.repeated_outputs = 0
        """Carbon records published more than once, as replays do [count]."""


async def gather(settings: Settings, *, sql: bool) -> Accounts:
    """Read the carbon and commands topics, the run table's changelog and the database.

    The database must not be open elsewhere.
    """
    accounts = Accounts()
    await _read_carbon(settings, accounts)
    await _read_table(settings, accounts)
    await _read_commands(settings, accounts)
    if sql:
        _read_database(settings, accounts)
    return accounts


async def _read_carbon(settings: Settings, accounts: Accounts) -> None:
    seen: set[str] = set()
    records = await read_all(settings, Topics(settings.kafka.topic_prefix).carbon)
    values = b",".join(record.value or b"" for record in records)
    for carbon in CARBON_RECORDS.validate_json(b"[" + values + b"]"):
        if carbon.source in seen:
            accounts.repeated_outputs += 1
            continue
        seen.add(carbon.source)
        if isinstance(carbon, Carbon):
            accounts.carbon_sources[carbon.run_id].append(carbon.source)
            _add(accounts.carbon_runs, carbon.run_id, carbon)
            _add(accounts.carbon_agents, (carbon.run_id, carbon.agent_id), carbon)


def _add(sums: dict[Any, Sums], key: Any, carbon: Carbon) -> None:
    total = sums.setdefault(key, Sums())
    total.calls += 1
    total.input_tokens += carbon.input_tokens
    total.cache_read_tokens += carbon.cache_read_tokens
    total.output_tokens += carbon.output_tokens


async def _read_table(settings: Settings, accounts: Accounts) -> None:
    partitions: dict[int, Partition] = {}
    for record in await read_all(settings, Topics(settings.kafka.topic_prefix).runs):
        number = record.partition
        if number not in partitions:
            partitions[number] = Partition("events", number, estimator=default_estimator())
        partitions[number].recover(record.key or b"", record.value, now=_NOW)
    for partition in partitions.values():
        for run in partition.runs.values():
            accounts.table_runs[run.run_id] = _sums(run.totals)
            for agent_id, totals in run.agents.items():
                accounts.table_agents[run.run_id, agent_id] = _sums(totals)


def _sums(totals: Totals) -> Sums:
    return Sums(totals.calls, totals.input_tokens, totals.cache_read_tokens, totals.output_tokens)


async def _read_commands(settings: Settings, accounts: Accounts) -> None:
    distinct: dict[str, Command] = {}
    for record in await read_all(settings, Topics(settings.kafka.topic_prefix).commands):
        command = Command.model_validate_json(record.value or b"")
        distinct[command.command_id] = command
    accounts.commands = Counter((c.run_id, c.reason) for c in distinct.values())


_SUMS = (
    "sum({calls})::BIGINT, sum(input_tokens)::BIGINT, sum(cache_read_tokens)::BIGINT, "
    "sum(output_tokens)::BIGINT"
)


def _read_database(settings: Settings, accounts: Accounts) -> None:
    with duckdb.connect(str(settings.database_path), read_only=True) as db:

        def sums(table: str, keys: str, calls: str) -> list[tuple[object, ...]]:
            columns = _SUMS.format(calls=calls)
            return db.execute(f"SELECT {keys}, {columns} FROM {table} GROUP BY {keys}").fetchall()

        accounts.sql_events = {str(r[0]): Sums(*r[1:]) for r in sums("events", "run_id", "1")}  # type: ignore[arg-type]
        accounts.sql_runs = {
            str(r[0]): Sums(*r[1:])  # type: ignore[arg-type]
            for r in sums("runs", "run_id", "calls")
        }
        accounts.sql_agents = {
            (str(r[0]), str(r[1])): Sums(*r[2:])  # type: ignore[arg-type]
            for r in sums("agents", "run_id, agent_id", "calls")
        }
        counted = db.execute("SELECT run_id, reason, count(*) FROM commands GROUP BY ALL")
        accounts.sql_commands = Counter({(r[0], r[1]): r[2] for r in counted.fetchall()})
        (hourly,) = db.execute("SELECT sum(calls)::BIGINT FROM hourly").fetchall()
        accounts.sql_hourly_calls = hourly[0]


def expected_commands(ledger: Ledger) -> Counter[tuple[str, str]]:
    """Which runs breach their budget, and which reach a warning, by the ledger alone."""
    estimator = default_estimator()
    spent_g: dict[str, float] = defaultdict(float)
    policies: dict[str, Policy] = {}
    for event in ledger.events:
        if isinstance(event, Usage):
            by = estimator.coefficients(event.model, event.provider, event.region, event.time)
            spent_g[event.run_id] += footprint(event, by).carbon_g
        else:
            policies[event.run_id] = event.policy
    found: Counter[tuple[str, str]] = Counter()
    for run_id, policy in policies.items():
        if is_breached(spent_g[run_id], policy.carbon_budget_g):
            found[run_id, REASON] = 1
        for share in reached_warnings(policy, spent_g[run_id]):
            found[run_id, warn_cause(share)] = 1
    return found


def differences(ledger: Ledger, accounts: Accounts, *, sql: bool) -> list[str]:
    """Everything that is not as the ledger says: the account, the run, what was expected and
    found, and where the run's records came from."""
    found = [
        *_compare("carbon topic, runs", ledger.runs, accounts.carbon_runs, accounts),
        *_compare("carbon topic, agents", ledger.agents, accounts.carbon_agents, accounts),
        *_compare("run table, runs", ledger.runs, accounts.table_runs, accounts),
        *_compare("run table, agents", ledger.agents, accounts.table_agents, accounts),
        *_compare("commands topic", expected_commands(ledger), accounts.commands, accounts),
    ]
    if sql:
        found += [
            *_compare("DuckDB events", ledger.runs, accounts.sql_events, accounts),
            *_compare("DuckDB runs", ledger.runs, accounts.sql_runs, accounts),
            *_compare("DuckDB agents", ledger.agents, accounts.sql_agents, accounts),
            *_compare(
                "DuckDB commands", expected_commands(ledger), accounts.sql_commands, accounts
            ),
        ]
        if accounts.sql_hourly_calls != ledger.calls:
            found.append(
                f"DuckDB hourly: expected {ledger.calls}, found {accounts.sql_hourly_calls}"
            )
    return found


def _compare(
    name: str,
    expected: Mapping[Any, object],
    found: Mapping[Any, object],
    accounts: Accounts,
) -> Iterator[str]:
    for key in sorted(expected.keys() | found.keys(), key=str):
        if expected.get(key) != found.get(key):
            run_id = key if isinstance(key, str) else key[0]
            sources = " ".join(accounts.carbon_sources.get(run_id, [])[-40:])
            yield (
                f"{name}: {key}: expected {expected.get(key)}, found {found.get(key)}"
                f" (sources of its carbon records: {sources})"
            )
