from __future__ import annotations

from collections.abc import Iterator

import pytest
from grid_api import FakeApi, running_api


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api() as running:
        yield running
