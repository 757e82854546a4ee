"""Reading the settings, with errors that name the environment variable to mend."""

from __future__ import annotations

from pydantic import ValidationError

from marlin.errors import ConfigurationError
from marlin.settings import Settings

__all__ = ["load_settings"]


def load_settings() -> Settings:
    """The settings of this process. Raises `ConfigurationError` naming every invalid one."""
    try:
        return Settings()
    except ValidationError as exc:
        wrong = "; ".join(
            f"MARLIN_{'__'.join(str(part) for part in error['loc']).upper()}: {error['msg']}"
            for error in exc.errors(include_url=False)
        )
        raise ConfigurationError(
            f"settings are invalid ({wrong}); correct the environment or .env, nothing was started"
        ) from exc
