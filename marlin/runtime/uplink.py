"""Whether there is a Kafka cluster to talk to. Light: Kafka's client is imported only if so."""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Protocol

from marlin.errors import ConfigurationError
from marlin.runtime.outgoing import OutgoingEvent
from marlin.runtime.run import Run

if TYPE_CHECKING:
    from marlin.settings import Settings

__all__ = ["Uplink", "uplink_for"]


class Uplink(Protocol):
    """The way to the pipeline and back. Shared by all runs of a process."""

    def emit(self, event: OutgoingEvent) -> None:
        """Send `event` soon, in order per run. Returns at once, never raises."""
        ...

    def open(self, run: Run) -> None:
        """Pass commands to `run` from now on. Called before its `run.started` is emitted."""
        ...

    def close(self, run: Run) -> None:
        """`run` has ended. Late commands still reach it for a while."""
        ...

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything emitted so far is in Kafka. False: not now, the broker is away
        or `timeout_s` passed; it is still sent when the broker comes back in time."""
        ...


def uplink_for(settings: Settings, *, kafka: bool | None) -> Uplink | None:
    """The process's link to the configured cluster; None means purely local.

    `kafka` as in `MeshFlow`. Returns at once: connecting goes on in the background. Raises
    `ConfigurationError` where `kafka` is True and no cluster is configured or running.
    """
    if kafka is False:
        return None
    # Imported here: what is only imported must not build what looks for a cluster.
    from marlin.broker.running import find_running

    if settings.kafka.bootstrap_servers is None and find_running(settings.home_dir) is None:
        if kafka:
            raise ConfigurationError(
                "kafka=True and no cluster: start one with `marlin up`, set "
                "MARLIN_KAFKA__BOOTSTRAP_SERVERS to host:port, or leave `kafka` out"
            )
        return None
    # Imported here: a run without Kafka must not pay for its client.
    from marlin.runtime.link import link_for

    return link_for(settings)


@atexit.register
def _close_links() -> None:
    # Registered here and not where the links are, which are imported late: what is registered
    # last runs first, and runs that end with the program still send through them.
    links = sys.modules.get("marlin.runtime.link")
    if links is not None:
        links.close_links()
