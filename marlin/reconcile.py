"""Holding accounts of the same events against each other. Pure.

The run table, the carbon topic and the database each count the same calls, but on a live system
none of them stands still. So they are compared up to a position, not at a moment: each account
says how far in the events topic it has come, and the carbon topic, which keeps every call with
its position, is added up to exactly there. What is behind is then no difference, and what
differs is wrong however busy the system is.

Two things make a run's account shorter than its history, and both can be told:

- A run that finished or was idle leaves the table; if it comes back, the table counts from 0.
  Each carbon record says how many calls its run had in the table (`run_calls`), so where that
  number starts again is where the run's present life begins.
- Retention removes old carbon records. A life whose first record left is not call number 1 has
  lost its beginning: its number of calls can be compared, its tokens cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from marlin.schemas import Carbon, SourcePosition, Usage
from marlin.streams.partition import Partition
from marlin.streams.run import Run
from marlin.totals import OTHER_AGENTS, Totals

__all__ = [
    "Account",
    "Bounds",
    "Difference",
    "Lives",
    "Log",
    "Position",
    "Seen",
    "Sums",
    "compare",
    "position_of",
    "table_account",
]


@dataclass(slots=True)
class Sums:
    """Calls and tokens of a run or an agent [counts]."""

    calls: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, call: Usage) -> None:
        """Count one call."""
        self.calls += 1
        self.input_tokens += call.input_tokens
        self.cache_read_tokens += call.cache_read_tokens
        self.cache_write_tokens += call.cache_write_tokens
        self.output_tokens += call.output_tokens
        self.reasoning_tokens += call.reasoning_tokens

    def add_all(self, sums: Sums) -> None:
        """Count what `sums` counted."""
        for name in Sums.__slots__:
            setattr(self, name, getattr(self, name) + getattr(sums, name))

    @classmethod
    def of(cls, totals: Totals) -> Sums:
        """The counts in a row of the run table."""
        return cls(*(getattr(totals, name) for name in cls.__slots__))


@dataclass(slots=True)
class Account:
    """What one place says that each run, and each of its agents, adds up to."""

    runs: dict[str, Sums] = field(default_factory=dict[str, Sums])
    agents: dict[tuple[str, str], Sums] = field(default_factory=dict[tuple[str, str], Sums])

    def add(self, call: Usage) -> None:
        """Count one call."""
        self.runs.setdefault(call.run_id, Sums()).add(call)
        self.agents.setdefault((call.run_id, call.agent_id), Sums()).add(call)

    @property
    def total(self) -> Sums:
        """All runs together."""
        total = Sums()
        for sums in self.runs.values():
            total.add_all(sums)
        return total


@dataclass(frozen=True, slots=True)
class Difference:
    """Two accounts that do not agree on a run or an agent."""

    account: str
    """The one that was found wanting."""
    against: str
    """The one it was held against."""
    run_id: str
    agent_id: str | None
    expected: Sums | None
    """None: the run or agent should not be there."""
    found: Sums | None
    """None: it is not there."""

    def __str__(self) -> str:
        who = f"run {self.run_id}" + (f", agent {self.agent_id}" if self.agent_id else "")
        return f"{self.account}: {who}: {_apart(self.expected, self.found)} ({self.against})"


def _apart(expected: Sums | None, found: Sums | None) -> str:
    if found is None and expected is not None:
        return f"missing, expected {expected.calls} calls"
    if expected is None and found is not None:
        return f"unexpected, found {found.calls} calls"
    names = [n for n in Sums.__slots__ if getattr(expected, n) != getattr(found, n)]
    return ", ".join(f"{n} {getattr(found, n)}, expected {getattr(expected, n)}" for n in names)


def compare(account: str, found: Account, against: str, expected: Account) -> Iterator[Difference]:
    """Every run, and every agent of it, on which `found` and `expected` differ, by name.

    A run or agent that is missing in one is a difference unless it has no calls in the other.
    """
    for run_id in sorted(expected.runs.keys() | found.runs.keys()):
        pair = expected.runs.get(run_id), found.runs.get(run_id)
        if _differ(*pair):
            yield Difference(account, against, run_id, None, *pair)
    for run_id, agent_id in sorted(expected.agents.keys() | found.agents.keys()):
        key = run_id, agent_id
        pair = expected.agents.get(key), found.agents.get(key)
        if _differ(*pair):
            yield Difference(account, against, run_id, agent_id, *pair)


def _differ(expected: Sums | None, found: Sums | None) -> bool:
    return (expected or Sums()) != (found or Sums())


class Log(NamedTuple):
    """A partition of the events topic, as derived records name it."""

    topic: str
    partition: int


class Position(NamedTuple):
    """Where in a run's log: compares in log order. A recreated topic is a later epoch."""

    epoch: int
    offset: int


def position_of(source: SourcePosition) -> Position:
    """The position in a source. Its topic is `name` or, recreated, `name@epoch`."""
    _, _, epoch = source.topic.partition("@")
    return Position(int(epoch) if epoch.isdigit() else 0, source.offset)


@dataclass(slots=True)
class Bounds:
    """What of a log the carbon topic holds."""

    lowest: int
    highest: int


class Seen:
    """Drops what a worker published again after a restart, as every reader does.

    Within one log derived records come in increasing offset, except for such repeats.
    """

    def __init__(self) -> None:
        self.bounds: dict[Log, Bounds] = {}
        self.repeated = 0
        """Records dropped [count]."""

    def is_new(self, source: SourcePosition) -> bool:
        """Whether the record from `source` is the first one. Called once for each record."""
        bounds = self.bounds.get(Log(source.topic, source.partition))
        if bounds is None:
            log = Log(source.topic, source.partition)
            self.bounds[log] = Bounds(source.offset, source.offset)
            return True
        if source.offset <= bounds.highest:
            self.repeated += 1
            return False
        bounds.highest = source.offset
        return True


def table_account(partitions: Iterable[Partition]) -> Account:
    """What the run table says."""
    account = Account()
    for partition in partitions:
        for run in partition.runs.values():
            account.runs[run.run_id] = _row_sums(run)
            for agent_id, totals in run.agents.items():
                account.agents[run.run_id, agent_id] = Sums.of(totals)
    return account


def _row_sums(run: Run) -> Sums:
    # A row holds its calls apart from its agents' sums: either may be found wanting.
    sums = Sums.of(run.totals)
    sums.calls = run.calls
    return sums


class Lives:
    """The carbon topic as the run table must have it: each run's present life, up to the
    position that its row has reached."""

    def __init__(self, rows: Mapping[str, Run]) -> None:
        self._rows = rows
        self._account = Account()
        self._agents: dict[str, set[str]] = {}
        self._last_calls: dict[str, int] = {}
        self._cut: set[str] = set()

    def add(self, carbon: Carbon, source: SourcePosition) -> None:
        """Take a carbon record, each once and in the order of its log."""
        call = carbon.usage
        run = self._rows.get(call.run_id)
        if run is None or position_of(source) > Position(run.epoch, run.position):
            return
        calls = carbon.run_calls
        last = self._last_calls.get(call.run_id)
        if last is None or calls <= last:
            self._begin_life(call.run_id, cut=calls > 1)
        self._last_calls[call.run_id] = calls
        # A row holds so many agents; what further ones did is summed up in it.
        is_apart = call.agent_id in run.agents or OTHER_AGENTS not in run.agents
        agent_id = call.agent_id if is_apart else OTHER_AGENTS
        self._agents.setdefault(call.run_id, set()).add(agent_id)
        self._account.runs.setdefault(call.run_id, Sums()).add(call)
        self._account.agents.setdefault((call.run_id, agent_id), Sums()).add(call)

    def _begin_life(self, run_id: str, *, cut: bool) -> None:
        self._account.runs.pop(run_id, None)
        for agent_id in self._agents.pop(run_id, ()):
            del self._account.agents[run_id, agent_id]
        if cut:
            self._cut.add(run_id)
        else:
            self._cut.discard(run_id)

    def differences(self, *, is_whole: bool) -> list[Difference]:
        """Where the table and the topic differ.

        `is_whole`: nothing was removed from the topic, so a run without a record on it is a
        difference. Else such a run, and the tokens of a life whose beginning is gone, cannot be
        compared.
        """
        table, topic = Account(), Account()
        for run_id, run in self._rows.items():
            if not is_whole and run_id not in self._last_calls:
                continue
            if run_id in self._cut and not is_whole:
                table.runs[run_id] = Sums(calls=run.calls)
                topic.runs[run_id] = Sums(calls=self._last_calls[run_id])
                continue
            table.runs[run_id] = _row_sums(run)
            topic.runs[run_id] = self._account.runs.get(run_id, Sums())
            for agent_id, totals in run.agents.items():
                table.agents[run_id, agent_id] = Sums.of(totals)
            for agent_id in self._agents.get(run_id, ()):
                topic.agents[run_id, agent_id] = self._account.agents[run_id, agent_id]
        return list(compare("run table", table, "carbon topic", topic))

    @property
    def cut(self) -> int:
        """Runs whose beginning is gone from the topic [count]."""
        return len(self._cut) + len(self._rows.keys() - self._last_calls.keys())
