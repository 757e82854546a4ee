"""Keeps the Kafka client's chatter out of the agents' terminal.

While a broker is away aiokafka logs several errors each tenth of a second, which would bury an
agent's own output. The link says once that Kafka is away, and once what was lost.
"""

from __future__ import annotations

import logging
import sys

__all__ = ["quiet_client_logs"]


class _FromThread(logging.Filter):
    """Drops what one thread logs, unless debugging is on; other users of the client are heard."""

    def __init__(self, thread_name: str) -> None:
        super().__init__()
        self._thread_name = thread_name

    def filter(self, record: logging.LogRecord) -> bool:
        if record.threadName != self._thread_name:
            return True
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def quiet_client_logs(thread_name: str) -> None:
    """Silence aiokafka in the thread of that name. Called once, after aiokafka was imported."""
    quiet = _FromThread(thread_name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "aiokafka"]:
        # A filter counts only for records logged by that very logger, not by those below it.
        logging.getLogger(name).addFilter(quiet)
