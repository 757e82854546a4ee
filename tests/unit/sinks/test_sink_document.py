"""`docs/sql.md` is what the migrations say, and nothing goes undescribed."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from marlin.errors import SinkError
from marlin.sinks.document import PAGE, main, page, page_of
from marlin.sinks.examples import Example, example_queries
from marlin.sinks.migrations import migrate


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_check_tells_a_stale_page_and_writing_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "sql.md"
    assert main(["--check"], target) == 1
    assert not target.exists()
    assert "make docs" in capsys.readouterr().err
    assert main([], target) == 0
    assert main(["--check"], target) == 0
    target.write_text(target.read_text() + "by hand\n")
    assert main(["--check"], target) == 1


def test_everything_in_a_new_database_is_on_the_page() -> None:
    text = page()
    with duckdb.connect() as connection:
        migrate(connection)
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE NOT internal"
        ).fetchall()
    for relation, column, kind, comment in columns:
        section = text.split(f"\n### {relation}\n")[1].split("\n### ")[0]
        assert f"| `{column}` | {kind} | {comment} |" in section
    assert len(columns) > 300
    assert "`quality_tier(codes)`: Tier of data quality" in text
    for example in example_queries():
        assert f"### {example.title}\n\n{example.about}\n\n```sql\n{example.sql};\n```" in text


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("CREATE TABLE t (a INTEGER); COMMENT ON TABLE t IS 'T.'", "t.a"),
        ("CREATE TABLE t (a INTEGER); COMMENT ON COLUMN t.a IS 'A.'", "t"),
        ("CREATE VIEW v AS SELECT 1 AS a; COMMENT ON COLUMN v.a IS 'A.'", "v"),
        ("CREATE VIEW v AS SELECT 1 AS a; COMMENT ON VIEW v IS ''", "v, v.a"),
        ("CREATE MACRO m(x) AS x + 1", "m"),
        ("CREATE MACRO m(x) AS TABLE SELECT x", "m"),
    ],
)
def test_what_has_no_comment_is_named(made: str, named: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(made)
        with pytest.raises(SinkError, match=f"none on: {named};"):
            page_of(connection, ())


def test_a_comment_cannot_break_the_table() -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE t (a INTEGER); COMMENT ON TABLE t IS 'T.'; "
            "COMMENT ON COLUMN t.a IS 'this | that.'"
        )
        text = page_of(connection, (Example("Nothing", "None.", "FROM t"),))
    assert "| `a` | INTEGER | this \\| that. |\n" in text
