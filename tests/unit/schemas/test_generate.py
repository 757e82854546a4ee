"""`schemas/generated` holds what the contracts say, and the generator notices when not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from validity import is_valid

from marlin.schemas.generate import DIRECTORY, FAMILIES, drift, generated_files, main


def test_the_committed_files_are_up_to_date() -> None:
    assert drift(DIRECTORY) == []


def test_check_passes_on_what_was_just_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], tmp_path / "generated") == 0
    assert main(["--check"], tmp_path / "generated") == 0
    assert capsys.readouterr() == ("", "")


def test_check_names_what_differs_and_writing_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([], tmp_path)
    (tmp_path / "usage.schema.json").write_text("{}")
    (tmp_path / "command.schema.json").unlink()
    (tmp_path / "left.schema.json").write_text("{}")

    assert main(["--check"], tmp_path) == 1
    complaint = capsys.readouterr().err
    for name in ("usage.schema.json", "command.schema.json", "left.schema.json"):
        assert name in complaint
    assert "make schemas" in complaint
    assert "carbon.schema.json" not in complaint

    assert main([], tmp_path) == 0
    assert drift(tmp_path) == []
    assert not (tmp_path / "left.schema.json").exists()


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    assert main(["--check"], tmp_path / "missing") == 1
    assert not (tmp_path / "missing").exists()


def test_one_schema_per_family_with_an_example_that_it_accepts() -> None:
    files = generated_files()

    names = {f"{family}.schema.json" for family in FAMILIES}
    assert set(files) == names | {"deadletter-headers.schema.json", "asyncapi.json"}
    for name in set(files) - {"asyncapi.json"}:
        schema = json.loads(files[name])
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["$id"] == f"urn:marlin:{name.removesuffix('.schema.json')}:v1"
        Draft202012Validator.check_schema(schema)
        (example,) = schema["examples"]
        assert is_valid(schema, example)
        assert not is_valid(schema, {})
