"""Settings of a lake on the tests' servers."""

from __future__ import annotations

from lake_servers import Postgres, S3Store
from pydantic import SecretStr

from marlin.settings import Settings

__all__ = ["on_lake"]


def on_lake(settings: Settings, postgres: Postgres, store: S3Store) -> Settings:
    """The same settings with a lake of its own: a new catalogue and a new place in the store."""
    lake = {
        "lake_catalog": f"postgres:{postgres.new_database()}",
        "lake_data_path": store.new_path(),
        "s3_endpoint": store.endpoint,
        "s3_access_key_id": store.access_key_id,
        "s3_secret_access_key": SecretStr(store.secret_access_key),
        "s3_region": store.region,
        "s3_use_ssl": False,
        "session_timeout_s": 6.0,
    }
    return settings.model_copy(update={"sink": settings.sink.model_copy(update=lake)})
