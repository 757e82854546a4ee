"""What gets killed: workers and the sink, and the supervisor that starts them again."""

from __future__ import annotations

import signal
from pathlib import Path

from pipeline import PipelineProcess

from marlin.settings import Settings

__all__ = ["Fleet"]


class Fleet:
    """One to three workers and a sink, each in a process of its own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.crashes: list[str] = []
        """Processes that ended by themselves, which only a full disk or a lost broker excuses."""
        self._folder = folder
        self._workers: dict[int, PipelineProcess] = {}
        self._stopped: set[int] = set()
        self._sink: PipelineProcess | None = None
        self._sink_stopped = False

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

    # -- the sink

    def start_sink(self, *, disk_bytes: int = 0) -> None:
        """Start the sink; with `disk_bytes` on a disk that is nearly full."""
        log = self._folder / "sink.log"
        self._sink = PipelineProcess("sink", self.settings, log, disk_bytes=disk_bytes)

    def kill_sink(self) -> None:
        """SIGKILL, most likely in the middle of a transaction."""
        if self._sink is not None:
            self._sink.kill()

    def freeze_sink(self) -> None:
        """SIGSTOP: a sink that is very slow."""
        if self._sink is not None:
            self._sink.signal(signal.SIGSTOP)
            self._sink_stopped = True

    def thaw_sink(self) -> None:
        """SIGCONT."""
        if self._sink is not None:
            self._sink.signal(signal.SIGCONT)
            self._sink_stopped = False

    # -- all of them

    def supervise(self) -> None:
        """Start again what ended by itself, and take note of it."""
        for number, process in list(self._workers.items()):
            if not process.running:
                self.crashes.append(f"worker {number}")
                self._workers[number] = self._start_worker(number)
        if self._sink is not None and not self._sink.running:
            self.crashes.append("sink")
            self.start_sink()

    def stop(self) -> None:
        """Stop everything gracefully, the sink last."""
        for number in list(self._stopped):
            self.thaw_worker(number)
        if self._sink_stopped:
            self.thaw_sink()
        for number in list(self._workers):
            self.remove_worker(number, gracefully=True)
        if self._sink is not None:
            self._sink.stop()
            self._sink = None

    def kill(self) -> None:
        """Leave nothing running, whatever happened."""
        for process in [*self._workers.values(), self._sink]:
            if process is not None and process.running:
                process.kill()
