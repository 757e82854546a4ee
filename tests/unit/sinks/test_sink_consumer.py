"""When a batch is waited for to be full."""

from __future__ import annotations

import pytest

from marlin.settings import SinkSettings
from marlin.sinks.consumer import _fills  # pyright: ignore[reportPrivateUsage]

LIMITS = SinkSettings(batch_records=100_000, flush_interval_s=0.25, full_batch_wait_s=2.0)


@pytest.mark.parametrize(
    ("count", "waited_s", "fills"),
    [
        (0, 0.25, False),
        (12_499, 0.25, False),  # 49,996 a second fill 99,992 in 2 s
        (12_500, 0.25, True),
        (99_999, 1.99, True),
        (99_999, 2.0, False),  # as long as it may take
    ],
)
def test_a_batch_that_fills_in_time_is_waited_for(count: int, waited_s: float, fills: bool) -> None:
    assert _fills(count, waited_s, LIMITS) == fills


def test_it_can_be_turned_off() -> None:
    limits = LIMITS.model_copy(update={"full_batch_wait_s": 0.0})
    assert not _fills(99_999, 0.25, limits)
