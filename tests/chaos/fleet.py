"""What gets killed: workers and the sink, and the supervisor that starts them again."""

from __future__ import annotations

import signal
from pathlib import Path

from pipeline import PipelineProcess

from marlin.settings import Settings

__all__ = ["Fleet"]


class Fleet:
    """One to three workers and a sink, or several on a lake, each in a process of its own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.crashes: list[str] = []
        """Processes that ended by themselves, which only a full disk or a lost broker excuses."""
        self._folder = folder
        self._workers: dict[int, PipelineProcess] = {}
        self._stopped: set[int] = set()
        self._sinks: dict[int, PipelineProcess] = {}
        self._stopped_sinks: set[int] = set()

    # -- workers

    @property
    def workers(self) -> list[int]:
        """Numbers of the workers that run and are not stopped by SIGSTOP."""
        return [n for n in self._workers if n not in self._stopped]

    def add_worker(self) -> int:
        """Start one more; returns its number."""
        number = max(self._workers, default=0) + 1
        self._workers[number] = self._start_worker(number)
        return number

    def _start_worker(self, number: int) -> PipelineProcess:
        return PipelineProcess("worker", self.settings, self._folder / f"worker-{number}.log")

    def kill_worker(self, number: int) -> None:
        """SIGKILL, and start it again."""
        self._workers[number].kill()
        self._workers[number] = self._start_worker(number)

    def remove_worker(self, number: int, *, gracefully: bool) -> None:
        """Take one away for good."""
        process = self._workers.pop(number)
        if gracefully:
            process.stop()
        else:
            process.kill()

    def freeze_worker(self, number: int) -> None:
        """SIGSTOP: long enough, and it is a zombie."""
        self._workers[number].signal(signal.SIGSTOP)
        self._stopped.add(number)

    def thaw_worker(self, number: int) -> None:
        """SIGCONT."""
        self._stopped.discard(number)
        self._workers[number].signal(signal.SIGCONT)

    # -- sinks

    @property
    def sinks(self) -> list[int]:
        """Numbers of the sinks that run and are not stopped by SIGSTOP."""
        return [n for n in self._sinks if n not in self._stopped_sinks]

    def add_sink(self) -> int:
        """Start one more, where the storage takes several; returns its number."""
        number = max(self._sinks, default=0) + 1
        self._sinks[number] = self._start_sink(number)
        return number

    def _start_sink(self, number: int, *, disk_bytes: int = 0) -> PipelineProcess:
        log = self._folder / f"sink-{number}.log"
        return PipelineProcess("sink", self.settings, log, disk_bytes=disk_bytes)

    def kill_sink(self, number: int, *, disk_bytes: int = 0) -> None:
        """SIGKILL, most likely in the middle of a transaction, and start it again; with
        `disk_bytes` on a disk that is nearly full."""
        self._sinks[number].kill()
        self._sinks[number] = self._start_sink(number, disk_bytes=disk_bytes)

    def remove_sink(self, number: int, *, gracefully: bool) -> None:
        """Take one away for good."""
        process = self._sinks.pop(number)
        if gracefully:
            process.stop()
        else:
            process.kill()

    def freeze_sink(self, number: int) -> None:
        """SIGSTOP: a sink that is very slow; of several, long enough, a zombie."""
        self._sinks[number].signal(signal.SIGSTOP)
        self._stopped_sinks.add(number)

    def thaw_sink(self, number: int) -> None:
        """SIGCONT."""
        self._stopped_sinks.discard(number)
        self._sinks[number].signal(signal.SIGCONT)

    # -- all of them

    def supervise(self) -> None:
        """Start again what ended by itself, and take note of it."""
        for number, process in list(self._workers.items()):
            if not process.running:
                self.crashes.append(f"worker {number}")
                self._workers[number] = self._start_worker(number)
        for number, process in list(self._sinks.items()):
            if not process.running:
                self.crashes.append(f"sink {number}")
                self._sinks[number] = self._start_sink(number)

    def stop(self) -> None:
        """Stop everything gracefully, the sinks last; those of a lake one after the other, so that
        the last one drains every partition."""
        for number in list(self._stopped):
            self.thaw_worker(number)
        for number in list(self._stopped_sinks):
            self.thaw_sink(number)
        for number in list(self._workers):
            self.remove_worker(number, gracefully=True)
        for number in list(self._sinks):
            self.remove_sink(number, gracefully=True)

    def kill(self) -> None:
        """Leave nothing running, whatever happened."""
        for process in [*self._workers.values(), *self._sinks.values()]:
            if process.running:
                process.kill()
