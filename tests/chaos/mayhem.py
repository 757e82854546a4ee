"""What happens to the fleet, at random but from a seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from chaos.fleet import Fleet

__all__ = ["Broker", "Mayhem"]

MAX_WORKERS = 3
MAX_SINKS = 3
DISK_LEFT_BYTES = 300_000
"""What a "full" disk still takes before it refuses."""


class Broker(Protocol):
    """A broker that survives being restarted."""

    def kill(self) -> None: ...
    def start(self) -> None: ...


class Mayhem:
    """Does something bad every second or two until told to stop."""

    def __init__(
        self, fleet: Fleet, *, seed: int, session_timeout_s: float, broker: Broker | None
    ) -> None:
        self.done: Counter[str] = Counter()
        """What was done, by kind."""
        self._fleet = fleet
        self._rng = random.Random(seed)
        self._zombie_s = session_timeout_s * 1.7
        self._broker = broker
        self._later: set[asyncio.Task[None]] = set()

    @property
    def kills(self) -> int:
        """Processes that died, were frozen or taken away [count]."""
        return sum(count for kind, count in self.done.items() if not kind.endswith("added"))

    async def run(self, until: Callable[[], bool]) -> None:
        """Go on until `until()`; what was frozen is thawed before this returns."""
        acts: list[tuple[int, Callable[[], None]]] = [
            (6, self._kill_worker),
            (3, self._zombie),
            (2, self._stop_worker),
            (2, self._add_worker),
            (5, self._kill_sink),
        ]
        if self._fleet.settings.sink.lake_catalog is None:
            acts += [(2, self._slow_sink), (1, self._full_disk)]
        else:
            acts += [(3, self._zombie_sink), (2, self._stop_sink), (3, self._add_sink)]
        if self._broker is not None:
            acts.append((1, self._restart_broker))
        weights = [weight for weight, _ in acts]
        while not until():
            await asyncio.sleep(self._rng.uniform(1.0, 5.0))
            self._fleet.supervise()
            self._rng.choices(acts, weights)[0][1]()
        if self._later:
            await asyncio.wait(self._later)

    def _kill_worker(self) -> None:
        if self._fleet.workers:
            self._fleet.kill_worker(self._rng.choice(self._fleet.workers))
            self.done["worker killed"] += 1

    def _zombie(self) -> None:
        if len(self._fleet.workers) < 2:
            return
        number = self._rng.choice(self._fleet.workers)
        self._fleet.freeze_worker(number)
        self.done["worker frozen into a zombie"] += 1
        self._after(self._zombie_s, lambda: self._fleet.thaw_worker(number))

    def _stop_worker(self) -> None:
        if len(self._fleet.workers) > 1:
            gracefully = self._rng.random() < 0.7
            number = self._rng.choice(self._fleet.workers)
            self._fleet.remove_worker(number, gracefully=gracefully)
            self.done["worker taken away"] += 1

    def _add_worker(self) -> None:
        if len(self._fleet.workers) < MAX_WORKERS:
            self._fleet.add_worker()
            self.done["worker added"] += 1

    def _kill_sink(self) -> None:
        if self._fleet.sinks:
            self._fleet.kill_sink(self._rng.choice(self._fleet.sinks))
            self.done["sink killed"] += 1

    def _slow_sink(self) -> None:
        if not self._later and self._fleet.sinks:
            self._freeze_sink(self._rng.uniform(2.0, 8.0))
            self.done["sink stalled"] += 1

    def _zombie_sink(self) -> None:
        if len(self._fleet.sinks) >= 2:
            self._freeze_sink(self._zombie_s)
            self.done["sink frozen into a zombie"] += 1

    def _freeze_sink(self, seconds: float) -> None:
        number = self._rng.choice(self._fleet.sinks)
        self._fleet.freeze_sink(number)
        self._after(seconds, lambda: self._fleet.thaw_sink(number))

    def _stop_sink(self) -> None:
        if len(self._fleet.sinks) > 1:
            gracefully = self._rng.random() < 0.7
            self._fleet.remove_sink(self._rng.choice(self._fleet.sinks), gracefully=gracefully)
            self.done["sink taken away"] += 1

    def _add_sink(self) -> None:
        if len(self._fleet.sinks) < MAX_SINKS:
            self._fleet.add_sink()
            self.done["sink added"] += 1

    def _full_disk(self) -> None:
        database = self._fleet.settings.database_path
        if not self._later and self._fleet.sinks and database.exists():
            left = database.stat().st_size + DISK_LEFT_BYTES
            self._fleet.kill_sink(self._rng.choice(self._fleet.sinks), disk_bytes=left)
            self.done["disk full"] += 1

    def _restart_broker(self) -> None:
        broker = self._broker
        if broker is not None and not self._later:

            def restart() -> None:
                broker.kill()
                broker.start()

            self.done["broker killed"] += 1
            self._remember(asyncio.to_thread(restart))

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            act()

        self._remember(later())

    def _remember(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._later.add(task)
        task.add_done_callback(self._later.discard)
