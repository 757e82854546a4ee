"""Where a lake is, as its settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from marlin.errors import ConfigurationError, SinkError
from marlin.settings import SinkSettings
from marlin.sinks.lake.location import lake_location
from marlin.sinks.lake.opening import open_lake


def settings_of(catalog: str | None, data: str | None = "/data") -> SinkSettings:
    return SinkSettings(lake_catalog=catalog, lake_data_path=data)


@pytest.mark.parametrize("catalog", [None, "", "sqlite", "sqlite:", "mysql:host=x", "/tmp/x.db"])
def test_a_catalogue_of_an_unknown_kind_is_refused(catalog: str | None) -> None:
    with pytest.raises(ConfigurationError, match="expected MARLIN_SINK__LAKE_CATALOG as sqlite:"):
        lake_location(settings_of(catalog))


@pytest.mark.parametrize("data", [None, "", "gs://bucket/x", "http://host/x"])
def test_files_are_in_a_folder_or_on_s3(data: str | None) -> None:
    with pytest.raises(ConfigurationError, match="expected MARLIN_SINK__LAKE_DATA_PATH"):
        lake_location(settings_of("sqlite:/tmp/c.sqlite", data))


def test_paths_are_absolute_and_end_in_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    local = lake_location(settings_of("sqlite:c.sqlite", "files"))
    assert (local.catalog, local.data_path) == (f"{tmp_path}/c.sqlite", f"{tmp_path}/files/")
    assert not local.is_on_s3
    remote = lake_location(settings_of("sqlite:/c", "s3://bucket/prefix//"))
    assert (remote.data_path, remote.is_on_s3) == ("s3://bucket/prefix/", True)


@pytest.mark.parametrize(
    ("catalog", "pairs", "password"),
    [
        ("dbname=lake host=db", "dbname=lake host=db", None),
        ("dbname=lake password=geheim host=db", "dbname=lake host=db", "geheim"),
        (r"password='it\'s' dbname=lake", "dbname=lake", "it's"),
        (
            "postgresql://me:gehe%40im@db:5433/lake?sslmode=require",
            "host='db' port='5433' user='me' dbname='lake' sslmode='require'",
            "gehe@im",
        ),
        ("postgresql:///lake?host=/run/pg", "host='/run/pg' dbname='lake'", None),
    ],
)
def test_a_password_is_kept_apart(catalog: str, pairs: str, password: str | None) -> None:
    location = lake_location(settings_of(f"postgres:{catalog}"))
    assert (location.catalog, location.password) == (pairs, password)
    assert not password or password not in f"{location} {location!r}"


def test_an_error_shows_no_password(tmp_path: Path) -> None:
    settings = settings_of("postgres:host=/nonexistent dbname=x password=geheim", str(tmp_path))
    with pytest.raises(SinkError, match="cannot be opened") as refused:
        open_lake(settings)
    assert "geheim" not in str(refused.value)
    assert refused.value.__cause__ is None
