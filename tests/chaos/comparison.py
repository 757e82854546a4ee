"""Every account of what happened, held against the ledger, run by run and agent by agent."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator

from pipeline import read_all

from chaos.ledger import Ledger
from marlin.broker.cluster import connect
from marlin.budget import REASON, is_breached, reached_warnings, warn_cause
from marlin.doctor.accounts import Snapshot, read_snapshot
from marlin.doctor.table import read_table
from marlin.estimation import default_estimator
from marlin.query import query
from marlin.reconcile import Account, compare, table_account
from marlin.schemas import CARBON_RECORDS, Carbon, Command, Policy, Usage
from marlin.settings import Settings
from marlin.sinks.identity import identity_of
from marlin.streams.escalation import REASON as UNACKNOWLEDGED
from marlin.topics import Topics
from marlin.totals import footprint

__all__ = ["Accounts", "differences", "gather"]


class Accounts:
    """What the topics and the database say."""

    def __init__(self) -> None:
        self.carbon = Account()
        self.sources: dict[str, list[str]] = defaultdict(list)
        """Where each run's carbon records come from."""
        self.table = Account()
        self.commands: Counter[tuple[str, str]] = Counter()
        """Distinct commands per run and reason."""
        self.sql = Snapshot()
        self.sql_commands: Counter[tuple[str, str]] = Counter()
        self.repeated_outputs = 0
        """Records published more than once, as replays do [count]."""


async def gather(settings: Settings, *, sql: bool) -> Accounts:
    """Read the carbon and commands topics, the run table's changelog and the database."""
    accounts, topics = Accounts(), Topics(settings.kafka.topic_prefix)
    cluster = await connect(settings)
    identity = await identity_of(cluster, topics.all())
    accounts.table = table_account(await read_table(cluster, identity, topics))
    await _read_carbon(settings, accounts)
    await _read_commands(settings, accounts)
    if sql:
        accounts.sql = await asyncio.to_thread(read_snapshot, settings, identity, topics)
        rows = query(
            "SELECT run_id, reason, count(*) FROM commands GROUP BY ALL", settings=settings
        )
        accounts.sql_commands = Counter({(r[0], r[1]): r[2] for r in rows.rows})
    return accounts


async def _read_carbon(settings: Settings, accounts: Accounts) -> None:
    # By the set of sources, not by the highest of each log as every reader does: this must not
    # believe what it is to prove.
    seen: set[str] = set()
    records = await read_all(settings, Topics(settings.kafka.topic_prefix).carbon)
    values = b",".join(record.value or b"" for record in records)
    for carbon in CARBON_RECORDS.validate_json(b"[" + values + b"]"):
        if carbon.source in seen:
            accounts.repeated_outputs += 1
            continue
        seen.add(carbon.source)
        if isinstance(carbon, Carbon):
            accounts.sources[carbon.usage.run_id].append(carbon.source)
            accounts.carbon.add(carbon.usage)


async def _read_commands(settings: Settings, accounts: Accounts) -> None:
    distinct: dict[str, Command] = {}
    for record in await read_all(settings, Topics(settings.kafka.topic_prefix).commands):
        command = Command.model_validate_json(record.value or b"")
        distinct[command.command_id] = command
    accounts.commands = Counter((c.run_id, c.reason) for c in distinct.values())


def expected_commands(ledger: Ledger, *, escalated: bool) -> Counter[tuple[str, str]]:
    """Which runs breach their budget and which reach a warning, by the ledger alone. `escalated`:
    the aborts, which nobody acknowledges, are past their deadline."""
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
            if escalated:
                found[run_id, UNACKNOWLEDGED] = 1
        for share in reached_warnings(policy, spent_g[run_id]):
            found[run_id, warn_cause(share)] = 1
    return found


def differences(
    ledger: Ledger, accounts: Accounts, *, sql: bool, escalated: bool = False
) -> list[str]:
    """Everything that is not as the ledger says: the account, the run, what was expected and
    found, and where the run's records came from. `escalated`: every abort is past its deadline."""
    sent, commands = ledger.account, expected_commands(ledger, escalated=escalated)
    apart = [
        *compare("carbon topic", accounts.carbon, "ledger", sent),
        *compare("run table", accounts.table, "ledger", sent),
    ]
    if sql:
        apart += compare("DuckDB events", accounts.sql.events, "ledger", sent)
        apart += accounts.sql.differences()
    found = [
        f"{one} (sources of its carbon records: {' '.join(accounts.sources[one.run_id][-40:])})"
        for one in apart
    ]
    found += _compare_commands("commands topic", commands, accounts.commands)
    if sql:
        found += _compare_commands("DuckDB commands", commands, accounts.sql_commands)
    return found


def _compare_commands(
    account: str, expected: Counter[tuple[str, str]], found: Counter[tuple[str, str]]
) -> Iterator[str]:
    for run_id, reason in sorted(expected.keys() | found.keys()):
        key = run_id, reason
        if expected[key] != found[key]:
            yield f"{account}: run {run_id}, {reason}: expected {expected[key]}, found {found[key]}"
