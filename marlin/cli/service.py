"""`marlin worker` and `marlin sink`: one part of the pipeline, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Coroutine
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from marlin.cli.loop import on_signals, run_async

__all__ = [
    "LogLevel",
    "LogLevelOption",
    "ReadyFile",
    "Service",
    "configure_logging",
    "register",
    "serve",
]


class LogLevel(str, Enum):  # noqa: UP042  typer reads the values of a str enum
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogLevelOption = Annotated[LogLevel, typer.Option(help="How much is logged, to stderr.")]
ReadyFile = Annotated[
    Path | None,
    typer.Option(help="Written (with the process id) when ready, removed on stopping."),
]


class Service(Protocol):
    """A part of the pipeline with its settings applied."""

    def __call__(self, *, stop: asyncio.Event, ready: asyncio.Event) -> Coroutine[Any, Any, None]:
        """Run until `stop` is set; set `ready` when work has begun."""
        ...


def register(app: typer.Typer) -> None:
    """Add `marlin worker` and `marlin sink`."""
    app.command(rich_help_panel="Pipeline")(worker)
    app.command(rich_help_panel="Pipeline")(sink)


def worker(log_level: LogLevelOption = LogLevel.INFO, ready_file: ReadyFile = None) -> None:
    """Meter events: read usage from Kafka, publish carbon and abort commands.

    Runs until Ctrl-C or SIGTERM, then finishes and commits what it has read. Ends with 1 when it
    cannot go on; start it again, it resumes exactly where it stopped. Start several to share the
    work.

    Example: `MARLIN_KAFKA__BOOTSTRAP_SERVERS=kafka:9092 marlin worker`
    """
    configure_logging(log_level)
    from marlin.cli.settings import load_settings

    settings = load_settings()
    from marlin.streams.worker import run_worker

    settings.home_dir.mkdir(parents=True, exist_ok=True)
    # Events live shorter than a collection takes, and a million runs are no garbage: the defaults
    # spend a tenth of the time on looking for cycles that are not there.
    gc.set_threshold(100_000, 50, 100)
    serve("worker", partial(run_worker, settings), ready_file)


def sink(log_level: LogLevelOption = LogLevel.INFO, ready_file: ReadyFile = None) -> None:
    """Write carbon records into DuckDB, and answer `marlin sql` while it does.

    With `MARLIN_SINK__LAKE_CATALOG` it writes a DuckLake instead. Start as many sinks as you like
    then, on any machines: they share the partitions among them. `marlin sql` reads the lake itself.

    Runs until Ctrl-C or SIGTERM, then writes what is left on the topics. Ends with 1 when it
    cannot go on; start it again, it resumes from the positions stored in the database.

    Example: `MARLIN_SINK__DATABASE=carbon.duckdb marlin sink`
    """
    configure_logging(log_level)
    from marlin.cli.settings import load_settings

    settings = load_settings()
    from marlin.sinks.service import run_sink

    gc.set_threshold(100_000, 50, 100)  # as in the worker
    serve("sink", partial(run_sink, settings), ready_file)


def serve(name: str, service: Service, ready_file: Path | None) -> None:
    """Run `service` until a stop signal; print a line and write the file when it is ready."""
    run_async(_run(name, service, ready_file))


async def _run(name: str, service: Service, ready_file: Path | None) -> None:
    stop, ready = asyncio.Event(), asyncio.Event()

    def on_signal(received: int) -> None:
        if received > 1:
            # Asked twice: what is unfinished will be read again by the next start.
            os._exit(130)
        stop.set()

    with on_signals(on_signal), contextlib.ExitStack() as stack:
        announcing = asyncio.create_task(_announce(name, ready, ready_file))
        if ready_file is not None:
            stack.callback(ready_file.unlink, missing_ok=True)
        try:
            await service(stop=stop, ready=ready)
        finally:
            announcing.cancel()


async def _announce(name: str, ready: asyncio.Event, ready_file: Path | None) -> None:
    await ready.wait()
    print(f"{name} ready", flush=True)
    if ready_file is not None:
        partial_file = ready_file.with_suffix(f".{os.getpid()}")
        partial_file.write_text(str(os.getpid()))
        partial_file.replace(ready_file)


def configure_logging(level: LogLevel) -> None:
    """Log to stderr from `level` on. Call it before what logs is imported."""
    logging.basicConfig(
        level=level.value.upper(),
        stream=sys.stderr,
        force=True,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    # They say for every partition and request what ours say once.
    for chatty in ("aiokafka", "faust", "mode"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, getattr(logging, level.name)))
