"""Arrow, which ships no types: given the type Any here, once, instead of in every file."""

from __future__ import annotations

from typing import Any, TypeAlias

import pyarrow  # type: ignore[import-untyped]
import pyarrow.compute  # type: ignore[import-untyped]
import pyarrow.ipc  # type: ignore[import-untyped]
import pyarrow.json  # type: ignore[import-untyped]

__all__ = [
    "ArrowBatch",
    "ArrowReader",
    "ArrowSchema",
    "ArrowTable",
    "arrow",
    "arrow_compute",
    "arrow_json",
]

arrow: Any = pyarrow
arrow_compute: Any = pyarrow.compute
arrow_json: Any = pyarrow.json

ArrowTable: TypeAlias = Any
"""A `pyarrow.Table`."""

ArrowBatch: TypeAlias = Any
"""A `pyarrow.RecordBatch`."""

ArrowReader: TypeAlias = Any
"""A `pyarrow.RecordBatchReader`."""

ArrowSchema: TypeAlias = Any
"""A `pyarrow.Schema`."""
