from __future__ import annotations

import os
from pathlib import Path

import pytest

from marlin.broker.running import announced
from marlin.errors import ConfigurationError
from marlin.runtime.link import close_links, link_for
from marlin.runtime.uplink import uplink_for
from marlin.settings import KafkaSettings, Settings

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1")


def test_no_cluster_is_purely_local(tmp_path: Path) -> None:
    assert uplink_for(Settings(home=tmp_path), kafka=None) is None


def test_false_is_purely_local_even_where_a_cluster_is_configured(tmp_path: Path) -> None:
    assert uplink_for(Settings(home=tmp_path, kafka=NOWHERE), kafka=False) is None


def test_true_without_a_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="marlin up"):
        uplink_for(Settings(home=tmp_path), kafka=True)


def test_a_configured_cluster_is_linked_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka=NOWHERE)
    try:
        first = uplink_for(settings, kafka=None)
        again = uplink_for(Settings(home=tmp_path, kafka=NOWHERE), kafka=True)
        other = uplink_for(Settings(home=tmp_path / "other", kafka=NOWHERE), kafka=True)

        assert first is not None
        assert again is first is link_for(settings)
        assert other is not first
    finally:
        close_links()


def test_a_running_marlin_up_is_found(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    try:
        with announced(tmp_path, "127.0.0.1:1"):
            assert uplink_for(settings, kafka=None) is not None
    finally:
        close_links()


def test_a_child_process_gets_a_link_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child has the parent's objects but none of its threads."""
    settings = Settings(home=tmp_path, kafka=NOWHERE)
    parents = link_for(settings)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            child = link_for(settings)
            assert child is not parents
            close_links()
        assert link_for(settings) is parents
    finally:
        close_links()
