"""Which hourly intensities an event may be counted with. Pure.

An estimate must come out the same when its event is read again after a crash, though more may be
known by then. So what an event uses depends only on what stands in the logs: revision 0 of the
zone and hour that it happened in, if that was on its topic `VISIBLE_AFTER` before the event was on
its own. What was told later, or revised, is an adjustment to the ledger.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from marlin.schemas import GridRecord

__all__ = ["OLDEST_USE", "VISIBLE_AFTER", "HourlyValues", "hour_number"]

VISIBLE_AFTER = timedelta(seconds=60)
"""Between a value's coming and its first use: time for every worker to have read it, and for the
clocks of senders and broker to differ."""

OLDEST_USE = timedelta(days=7)
"""Events sent longer after the end of their hour have no hourly value: a worker need not remember
all hours that ever were, and one that starts anew knows as many as one that ran on."""

_MS = timedelta(milliseconds=1)
_HOUR = timedelta(hours=1)
_HOUR_MS = _HOUR // _MS


def hour_number(at: datetime) -> int:
    """The UTC hour that `at` is in, counted from 1970. A number is found in a fraction of the time
    that a `datetime` takes: both its hash and its comparison ask for the zone's offset."""
    return int(at.timestamp() // 3600)


class HourlyValues:
    """First values by zone and hour, as the grid topic tells them. Not thread-safe.

    Hours that began longer than `keep` before a record came are forgotten, and not taken in.
    """

    def __init__(self, *, keep: timedelta) -> None:
        self._keep_ms = keep // _MS
        self._values: dict[tuple[str, int], tuple[float, int, int]] = {}
        self._pruned_ms = 0

    def __len__(self) -> int:
        return len(self._values)

    def add(self, record: GridRecord, published_ms: int) -> None:
        """Take in a record that came on its topic at `published_ms` [ms]; the first one counts."""
        number = hour_number(record.hour)
        hour_ms = number * _HOUR_MS
        if record.revision or hour_ms < published_ms - self._keep_ms:
            return
        usable_ms = published_ms + VISIBLE_AFTER // _MS
        until_ms = hour_ms + (_HOUR + OLDEST_USE) // _MS
        known = (record.intensity_g_per_kwh, usable_ms, until_ms)
        self._values.setdefault((record.zone, number), known)
        if published_ms - self._pruned_ms > timedelta(days=1) // _MS:
            self._prune(published_ms)

    def intensity_g_per_kwh(self, zone: str, hour: datetime) -> float | None:
        """The value of `zone` in the hour that begins at `hour`, whoever may use it, or None."""
        known = self._values.get((zone, hour_number(hour)))
        return None if known is None else known[0]

    def is_usable(self, zone: str, number: int, sent_ms: int) -> bool:
        """Whether an event of the hour `number` (`hour_number`) that came on its topic at `sent_ms`
        [ms] is counted with that hour's value."""
        known = self._values.get((zone, number))
        return known is not None and known[1] <= sent_ms < known[2]

    def _prune(self, now_ms: int) -> None:
        oldest_ms = now_ms - self._keep_ms
        self._values = {
            key: value for key, value in self._values.items() if key[1] * _HOUR_MS >= oldest_ms
        }
        self._pruned_ms = now_ms
