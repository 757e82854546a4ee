from __future__ import annotations

import logging
import threading

import pytest
from aiokafka.errors import KafkaError

from marlin.runtime.quiet import quiet_client_logs

assert KafkaError  # aiokafka is imported, so that there is something to silence


def log_in_thread(name: str, text: str) -> None:
    thread = threading.Thread(target=logging.getLogger("aiokafka.errors").error, args=(text,))
    thread.name = name
    thread.start()
    thread.join()


@pytest.fixture
def client_log() -> logging.Logger:
    quiet_client_logs("quiet-thread")
    return logging.getLogger("aiokafka.errors")


def test_one_thread_is_silenced_and_no_other(
    client_log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    log_in_thread("quiet-thread", "chatter")
    log_in_thread("users-thread", "of the user's own client")

    assert [record.message for record in caplog.records] == ["of the user's own client"]


def test_debugging_brings_it_back(
    client_log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "aiokafka.errors"):
        log_in_thread("quiet-thread", "chatter")

    assert caplog.messages == ["chatter"]
