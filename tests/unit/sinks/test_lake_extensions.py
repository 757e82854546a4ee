"""DuckDB's extension files come from their packages."""

from __future__ import annotations

import duckdb
import pytest

from marlin.errors import ConfigurationError
from marlin.sinks.lake.extensions import extension_file, load_extension


@pytest.mark.parametrize("name", ["ducklake", "httpfs", "postgres_scanner", "sqlite_scanner"])
def test_every_extension_that_a_lake_needs_is_there(name: str) -> None:
    file = extension_file(name)
    assert file is not None
    assert file.name == f"{name}.duckdb_extension"
    assert f"v{duckdb.__version__}" in file.parts
    with duckdb.connect() as connection:
        load_extension(connection, name)
        assert connection.execute(
            "SELECT loaded FROM duckdb_extensions() WHERE extension_name = ?", [name]
        ).fetchall() == [(True,)]


def test_a_missing_one_says_what_to_install() -> None:
    assert extension_file("nonexistent") is None
    with (
        duckdb.connect(config={"autoinstall_known_extensions": False}) as connection,
        pytest.raises(ConfigurationError, match=r"pip install 'marlin-carbon\[lake\]'"),
    ):
        load_extension(connection, "nonexistent")


def test_a_package_for_another_duckdb_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb, "__version__", "1.4.0")
    assert extension_file("ducklake") is None
