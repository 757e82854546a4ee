"""Every setting is on the page as it is declared, and none goes undescribed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from marlin.errors import ConfigurationError
from marlin.reference.declared import Declared, groups
from marlin.reference.settings import page
from marlin.settings import Settings


class _Kinds(BaseModel):
    """Kinds of
    settings."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str = "a|b"
    """Text, wrapped
    in two lines."""
    secret: SecretStr | None = None
    """A secret."""
    folder: Path | None = None
    """A folder."""
    on: bool = True
    """A switch."""
    between: Annotated[int, Field(ge=1, le=1024)] = 8
    """A count."""
    least: Annotated[int, Field(ge=1_048_576)] | None = None
    """Bytes."""
    above: Annotated[float, Field(gt=0)] = 0.5
    """Seconds."""
    choice: Literal["a", "b"] = "a"
    """A choice."""
    several: tuple[Literal["a", "b"], ...] = ("a", "b")
    """Choices."""


class _Whole(BaseModel):
    home: Annotated[int, Field(description="Plain.")] = 1
    kinds: _Kinds = _Kinds()


def test_a_setting_is_told_as_people_write_it() -> None:
    general, kinds = groups(_Whole)

    assert (general.name, general.settings) == (
        "",
        (Declared("home", "MARLIN_HOME", "whole number", 1, "Plain."),),
    )
    assert (kinds.name, kinds.about) == ("kinds", "Kinds of settings.")
    assert [one[1:] for one in kinds.settings] == [
        ("MARLIN_KINDS__NAME", "text", "a|b", "Text, wrapped in two lines."),
        ("MARLIN_KINDS__SECRET", "secret text", None, "A secret."),
        ("MARLIN_KINDS__FOLDER", "path", None, "A folder."),
        ("MARLIN_KINDS__ON", "`true` or `false`", True, "A switch."),
        ("MARLIN_KINDS__BETWEEN", "whole number, 1 to 1024", 8, "A count."),
        ("MARLIN_KINDS__LEAST", "whole number, 1048576 or more", None, "Bytes."),
        ("MARLIN_KINDS__ABOVE", "number, more than 0", 0.5, "Seconds."),
        ("MARLIN_KINDS__CHOICE", "one of `a`, `b`", "a", "A choice."),
        ("MARLIN_KINDS__SEVERAL", "list, each one of `a`, `b`", ["a", "b"], "Choices."),
    ]


def test_what_nobody_described_is_named() -> None:
    class _Silent(_Whole):
        loud: Annotated[int, Field(description="Told.")] = 1
        silent: int = 1
        mute: str = ""

    with pytest.raises(ConfigurationError, match="none under: MARLIN_SILENT, MARLIN_MUTE;"):
        groups(_Silent)


def test_every_setting_is_on_the_page() -> None:
    text = page()
    variables = [
        f"MARLIN_{name}__{inner}".upper()
        for name, field in Settings.model_fields.items()
        for inner in getattr(field.annotation, "model_fields", ())
    ]

    assert len(variables) > 70
    assert [one for one in variables if text.count(f"\n| `{one}` | ") != 1] == []
    assert "| `MARLIN_HOME` | path | `~/.marlin` | " in text
    assert "| `MARLIN_GATEWAY__TOKEN` | secret text | unset | " in text
    assert "| `MARLIN_WORKER__BATCH_RECORDS` | whole number, 1 to 100000 | `5000` | " in text
    assert "| `MARLIN_GRID__PROVIDER` | list, each one of `electricitymaps`, " in text


@pytest.mark.parametrize("written", ["a.id, b.id,", '["a.id", "b.id"]'])
def test_lists_are_written_with_commas_or_as_json(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("MARLIN_OTEL__RUN_ID_ATTRIBUTES", written)

    assert Settings().otel.run_id_attributes == ("a.id", "b.id")
