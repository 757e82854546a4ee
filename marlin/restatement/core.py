"""What history would say by other factors or a better grid, as adjustments to what was recorded.

A restated value is the recorded one plus `new - old` of every adjustment. `old` is what held
before: the recorded estimate, or what the newest earlier restatement made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from marlin.errors import ConfigurationError, DataError
from marlin.estimation.codes import CODES
from marlin.estimation.columns import CompiledRows, compile_rows, estimate_columns
from marlin.estimation.compiler import METHOD
from marlin.estimation.estimator import Estimator
from marlin.estimation.factorset import shipped_factor_set, shipped_texts
from marlin.restatement.balance import SCHEMA, Balance
from marlin.restatement.ledger import Ledger, Reader, Scope
from marlin.sinks.arrow import ArrowTable, arrow
from marlin.sinks.measures import FOOTPRINT

__all__ = ["Kind", "Restatement", "compute"]

Kind = Literal["factors", "grid"]

_SHORTEST_ID = 12


@dataclass(frozen=True, slots=True)
class Restatement:
    """A restatement that is computed, not yet written: see the tables of the same names."""

    restatement_id: str
    kind: Kind
    reason: str
    method: str
    factors: str
    period_start: datetime
    """Inclusive; on a full hour (UTC)."""
    period_end: datetime
    """Exclusive; on a full hour (UTC)."""
    tenant: str | None
    calls: int
    """Calls that were computed again, changed or not [count]."""
    positions: Mapping[str, Mapping[str, int]]
    """How far the ledger was read, by source and partition: what came later is not in it."""
    after: tuple[str, ...]
    """Restatements of the same hours that it builds on. It cannot be written after others."""
    content: Mapping[str, str] | None = field(repr=False)
    """The factor set, by file name; None: not known."""
    adjustments: ArrowTable = field(repr=False)
    """Rows of `adjustments`, only those that change a figure."""


def compute(
    connection: Reader,
    *,
    estimator: Estimator,
    reason: str,
    period_start: datetime,
    period_end: datetime,
    kind: Kind = "factors",
    tenant: str | None = None,
    as_of: datetime | None = None,
    content: Mapping[str, str] | None = None,
    partial: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Restatement:
    """Estimate the ledger's calls of a period again; nothing is written.

    The period is of `event_time`, its begin inclusive, its end exclusive, both on a full hour.
    Restatements made after `as_of` are not built upon. `content` is the factor set to record with
    it; the shipped one is known. `progress` is called with calls done and calls in all.

    Memory is bounded by the adjustments and a slice of the ledger, not by the ledger. Events that
    are stored while this runs are left out, all of a partition from one position on.

    Raises `DataError` when the period is empty or not on full hours, and, unless `partial`, when
    the ledger no longer holds all of its calls; `partial` covers those that are there.
    """
    scope = Scope(_hour(period_start), _hour(period_end), tenant)
    if scope.end <= scope.start:
        raise DataError(
            f"the period ends at {scope.end:%Y-%m-%dT%H:%MZ}, where it begins or before; "
            "nothing was computed"
        )
    if content is None and estimator.factor_set.version == shipped_factor_set().version:
        content = shipped_texts()
    ledger = Ledger(connection, scope, as_of=as_of)
    if not partial:
        ledger.check_complete()
    restatement_id = f"restate-{uuid4().hex[:_SHORTEST_ID]}"
    tables, done, total = [SCHEMA.empty_table()], 0, ledger.calls
    with Balance(partial=partial) as balance:
        for part in ledger.slices:
            for batch in ledger.read(part):
                balance.add(_estimated(batch, estimator))
                done += batch.num_rows
                progress(done, total)
            tables.append(balance.settle(restatement_id, ledger.adjusted(part)))
    return Restatement(
        restatement_id=restatement_id,
        kind=kind,
        reason=reason,
        method=METHOD,
        factors=estimator.factor_set.version,
        period_start=scope.start,
        period_end=scope.end,
        tenant=tenant,
        calls=done,
        positions=ledger.positions,
        after=tuple(one.restatement_id for one in ledger.earlier),
        content=content,
        adjustments=arrow.concat_tables(tables).combine_chunks(),
    )


def _hour(time: datetime) -> datetime:
    utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if (utc.minute, utc.second, utc.microsecond) != (0, 0, 0):
        raise DataError(
            f"{time.isoformat()} is not a full hour (UTC), as the aggregates are kept by; "
            "nothing was computed"
        )
    return utc


def _estimated(batch: ArrowTable, estimator: Estimator) -> ArrowTable:
    """The batch with `new_*` columns beside the recorded ones."""
    try:
        compiled = compile_rows(
            model=batch["model"],
            provider=batch["provider"],
            region=batch["region"],
            at=batch["hour"] if estimator.has_grid else None,
            estimator=estimator,
        )
        figures = estimate_columns(
            model=(),
            provider=(),
            region=(),
            input_tokens=batch["input_tokens"],
            cache_read_tokens=batch["cache_read_tokens"],
            cache_write_tokens=batch["cache_write_tokens"],
            output_tokens=batch["output_tokens"],
            compiled_rows=compiled,
        )
    except ImportError as exc:
        raise ConfigurationError(
            "restating needs NumPy: pip install 'marlin-carbon[reports]'; nothing was computed"
        ) from exc
    for name in FOOTPRINT:
        batch = batch.append_column(f"new_{name}", arrow.array(figures[name]))
    said = {"new_codes": _codes(batch["codes"], compiled)}
    for name in ("method", "factors"):
        texts = arrow.array([getattr(one, name) for one in compiled.coefficients], arrow.string())
        said[f"new_{name}"] = texts.take(arrow.array(compiled.which))
    for name, column in said.items():
        batch = batch.append_column(name, column)
    return batch


def _codes(recorded: Any, compiled: CompiledRows) -> Any:
    """The estimate's codes, and those recorded ones that the estimate does not decide."""
    import numpy as np

    encoded = recorded.combine_chunks().dictionary_encode()
    kept: list[list[str]] = [
        [code for code in text.split(",") if code and code not in CODES]
        for text in encoded.dictionary.to_pylist()
    ]
    numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.intp)
    pairs, which = np.unique(compiled.which * max(len(kept), 1) + numbers, return_inverse=True)
    texts: list[str] = []
    numbered: list[int] = pairs.tolist()
    for pair in numbered:
        row, old = divmod(pair, max(len(kept), 1))
        texts.append(",".join([*compiled.coefficients[row].codes, *kept[old]]))
    return arrow.array(texts, arrow.string()).take(arrow.array(which))
