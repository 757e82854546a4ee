"""Reading spans is off unless asked for, and says what is missing."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from marlin.broker.cluster import Cluster
from marlin.errors import ConfigurationError
from marlin.settings import KafkaSettings, OtelSettings, Settings
from marlin.streams.otel.service import read_spans

NOWHERE = Cluster("127.0.0.1:1", "no-cluster", KafkaSettings())


async def test_switched_off_it_only_waits() -> None:
    reading = asyncio.create_task(read_spans(Settings(), NOWHERE))
    await asyncio.sleep(0.05)

    assert not reading.done()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("marlin.streams.otel.")]:
        if name != "marlin.streams.otel.service":
            monkeypatch.delitem(sys.modules, name)
    absent: Any = None  # what makes an import fail
    for name in [name for name in sys.modules if name.startswith("opentelemetry.proto")]:
        monkeypatch.setitem(sys.modules, name, absent)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto", absent)

    with pytest.raises(ConfigurationError, match=r"marlin-carbon\[pipeline,otel\]"):
        await read_spans(Settings(otel=OtelSettings(enabled=True)), NOWHERE)
