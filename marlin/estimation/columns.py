"""The vectorised form: footprints of whole columns, for restating history.

NumPy (and, for Arrow input, PyArrow) is imported when a function is called, not with the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from marlin.estimation.coefficients import Coefficients
from marlin.estimation.estimator import Estimator, default_estimator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["COLUMNS", "CompiledRows", "compile_rows", "estimate_columns"]

COLUMNS = tuple(
    f"{quantity}{end}"
    for quantity in ("energy_wh", "carbon_g", "embodied_g", "water_ml")
    for end in ("", "_low", "_high")
)
"""Names of the computed columns, as in `marlin.schemas.Carbon`."""


MOST_KINDS = 4_000_000
"""Combinations of distinct names for which a table of flags is kept [count]."""


class CompiledRows(NamedTuple):
    """What rows of names compile to: each row's coefficients are `coefficients[which[row]]`."""

    which: NDArray[np.intp]
    coefficients: list[Coefficients]


def compile_rows(
    *,
    model: Iterable[str],
    provider: Iterable[str],
    region: Iterable[str],
    at: Sequence[datetime] | None = None,
    estimator: Estimator | None = None,
) -> CompiledRows:
    """Coefficients of rows given as columns, each distinct combination compiled once.

    For callers that need the codes and versions of each row beside its figures. `at` counts only
    with an estimator that has a grid source. Raises ValueError where lengths differ.
    """
    estimator = default_estimator() if estimator is None else estimator
    return _compiled(estimator, (model, provider, region), at)


def estimate_columns(
    *,
    model: Iterable[str],
    provider: Iterable[str],
    region: Iterable[str],
    input_tokens: Any,
    cache_read_tokens: Any,
    cache_write_tokens: Any,
    output_tokens: Any,
    at: Sequence[datetime] | None = None,
    estimator: Estimator | None = None,
    compiled_rows: CompiledRows | None = None,
) -> dict[str, Floats]:
    """Footprints of calls given as columns of equal length: lists, NumPy or Arrow arrays.

    Gives `COLUMNS` and `intensity_g_per_kwh` as float64 arrays, equal to `Coefficients.ranged`
    of each row to the last bit. Each distinct model, provider, region and hour is compiled once,
    or not at all where `compiled_rows` gives what `compile_rows` made of the same names. `at`
    counts only with an estimator that has a grid source. Raises ValueError where lengths differ.
    """
    import numpy as np

    which, compiled = compiled_rows or compile_rows(
        model=model, provider=provider, region=region, at=at, estimator=estimator
    )
    rows = len(which)
    fresh = _floats(input_tokens, rows) + _floats(cache_write_tokens, rows)
    read, output = _floats(cache_read_tokens, rows), _floats(output_tokens, rows)

    def column(name: str) -> Floats:
        return np.array([getattr(one, name) for one in compiled], dtype=np.float64)[which]

    energy = (
        fresh
        * (
            column("prefill_wh")
            + column("prefill_attention_wh") * read
            + column("prefill_attention_wh") / 2 * fresh
        )
        + column("cached_wh") * read
        + output
        * (
            column("decode_wh")
            + column("context_wh") * (fresh + read)
            + column("context_wh") / 2 * output
        )
    )
    central = {
        "energy_wh": energy,
        "carbon_g": energy * column("carbon_g_per_wh"),
        "embodied_g": energy * column("embodied_g_per_wh"),
        "water_ml": energy * column("water_ml_per_wh"),
    }
    result: dict[str, Floats] = {"intensity_g_per_kwh": column("intensity_g_per_kwh")}
    for quantity, values in central.items():
        kind = quantity.rpartition("_")[0]
        result[quantity] = values
        result[f"{quantity}_low"] = values * column(f"{kind}_low")
        result[f"{quantity}_high"] = values * column(f"{kind}_high")
    return result


def _compiled(
    estimator: Estimator,
    names: tuple[Iterable[str], Iterable[str], Iterable[str]],
    at: Sequence[datetime] | None,
) -> CompiledRows:
    """For each row the number of its coefficients, and the coefficients."""
    import numpy as np

    columns: list[tuple[NDArray[np.intp], Sequence[Any]]] = [_coded(column) for column in names]
    columns.append((np.zeros(len(columns[0][0]), np.intp), [None]) if at is None else _coded(at))
    rows, kinds = len(columns[0][0]), 1
    combined = np.zeros(rows, np.intp)
    for codes, values in columns:
        if len(codes) != rows:
            raise ValueError(f"columns of {rows} and {len(codes)} rows, expected equal lengths")
        combined = combined * len(values) + codes
        kinds *= len(values)
    if kinds <= MOST_KINDS:
        # Sorting a million rows takes longer than everything else here; a table of flags does not.
        seen = np.zeros(kinds, np.bool_)
        seen[combined] = True
        distinct = np.flatnonzero(seen)
        which = (np.cumsum(seen) - 1)[combined]
    else:
        distinct, which = np.unique(combined, return_inverse=True)
    return CompiledRows(
        which, [estimator.coefficients(*_names(int(one), columns)) for one in distinct]
    )


def _names(
    number: int, columns: Sequence[tuple[NDArray[np.intp], Sequence[Any]]]
) -> tuple[Any, Any, Any, Any]:
    """Undo the combination: the row's model, provider, region and hour."""
    found: list[Any] = []
    for _, values in reversed(columns):
        number, index = divmod(number, len(values))
        found.append(values[index])
    hour, region, provider, model = found
    return model, provider, region, hour


def _coded(values: Iterable[Any]) -> tuple[NDArray[np.intp], Sequence[Any]]:
    """A column as numbers into its distinct values; Arrow columns never become Python objects."""
    import numpy as np

    arrow: Any = values
    if hasattr(arrow, "dictionary_encode"):
        if hasattr(arrow, "combine_chunks"):
            arrow = arrow.combine_chunks()
        encoded = arrow.dictionary_encode()
        return encoded.indices.to_numpy(zero_copy_only=False).astype(
            np.intp
        ), encoded.dictionary.to_pylist()
    numbers: dict[Any, int] = {}
    codes = np.fromiter((numbers.setdefault(one, len(numbers)) for one in values), np.intp)
    return codes, list(numbers)


def _floats(values: Any, rows: int) -> Floats:
    """A float64 array; Arrow columns convert without a Python object a value."""
    import numpy as np

    if hasattr(values, "to_numpy"):
        try:
            values = values.to_numpy(zero_copy_only=False)
        except TypeError:
            # ChunkedArray takes no such argument; NumPy arrays have no such method.
            values = values.to_numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (rows,):
        raise ValueError(f"a token column has shape {array.shape}, expected ({rows},)")
    return array
