"""DuckDB's extension files: from their PyPI packages, so that nothing is downloaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb

from marlin.errors import ConfigurationError

__all__ = ["extension_file", "load_extension"]


def extension_file(name: str) -> Path | None:
    """The file of the package `duckdb-extension-<name>` for this DuckDB; None without it."""
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder, "extensions", f"v{duckdb.__version__}", f"{name}.duckdb_extension")
        if file.is_file():
            return file
    return None


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension from its package, else one that DuckDB's own `INSTALL` has fetched.

    Raises `ConfigurationError`, which says what to install, when there is neither.
    """
    file = extension_file(name)
    what = "'" + str(file).replace("'", "''") + "'" if file else name
    try:
        connection.execute(f"LOAD {what}")
    except duckdb.Error as exc:
        raise ConfigurationError(
            f"the lake needs DuckDB's extension {name} for DuckDB {duckdb.__version__}, which is "
            "not there. Install it with `pip install 'marlin-carbon[lake]'`, or, with access to "
            f"the internet, in DuckDB: INSTALL {name}. ({exc})"
        ) from exc
