"""`marlin gateway`: events over HTTP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from marlin.cli.service import (
    LogLevel,
    LogLevelOption,
    ReadyFile,
    configure_logging,
    serve,
)

if TYPE_CHECKING:
    from marlin.settings import Settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `marlin gateway`."""
    app.command(rich_help_panel="Pipeline")(gateway)


def gateway(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen for other machines without a token.")
    ] = False,
    log_level: LogLevelOption = LogLevel.INFO,
    ready_file: ReadyFile = None,
) -> None:
    """Take events over HTTP, for runtimes that do not speak Kafka.

    `POST /v1/events` takes JSON (an event or an array) and JSON Lines, and answers 202 once Kafka
    has them. `GET /healthz` and `GET /readyz` tell how it is. With MARLIN_GATEWAY__TOKEN set,
    senders need it as a bearer token. Runs until Ctrl-C or SIGTERM.

    Example: `MARLIN_GATEWAY__TOKEN=$(openssl rand -hex 16) marlin gateway --host 0.0.0.0`
    """
    configure_logging(log_level)
    from marlin.cli.settings import load_settings

    settings = _with_address(load_settings(), host, port)
    from marlin.web.gateway import run_gateway

    name = f"gateway on http://{settings.gateway.host}:{settings.gateway.port}"
    serve(name, partial(run_gateway, settings, insecure=insecure), ready_file)


def _with_address(settings: Settings, host: str | None, port: int | None) -> Settings:
    given: dict[str, object] = {"host": host, "port": port}
    changes = {name: value for name, value in given.items() if value is not None}
    changed = settings.gateway.model_copy(update=changes)
    return settings.model_copy(update={"gateway": changed})
