"""Reading Kafka records: everything is either taken in or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.sinks.batch import TopicPartition
from marlin.sinks.conformance import (
    NOON,
    TOPICS,
    Recorded,
    batch_of,
    carbon,
    command,
    dead_letter,
    started,
)
from marlin.sinks.decode import decode


def changed(change: Callable[[dict[str, Any]], object], source: int = 5) -> bytes:
    """The bytes of a good record after a change."""
    record = orjson.loads(carbon(source).value or b"")
    change(record)
    return orjson.dumps(record)


def setting(**fields: Any) -> bytes:
    return changed(lambda record: record.update(fields))


GOOD = carbon(5).value or b""

REFUSED: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "no value (a tombstone)"),
    "empty": (b"", "not JSON"),
    "spaces": (b"   ", "not JSON"),
    "not utf-8": (GOOD.replace(b"gpt-5", b"gpt\xff5"), "not valid UTF-8"),
    "cut off": (GOOD[:-20], "not JSON"),
    "two records": (GOOD + GOOD, "not JSON"),
    "two records in lines": (GOOD + b"\n" + GOOD, "not JSON"),
    "an array": (b"[" + GOOD + b"]", "expected an object, found list"),
    "a number": (b"7", "expected an object, found int"),
    "another type": (setting(type="usage"), "expected a carbon or lifecycle record"),
    "text for a count": (setting(input_tokens="1"), "input_tokens"),
    "a fraction of a token": (setting(input_tokens=1.5), "int64"),
    "too many tokens": (setting(output_tokens=2**62), "output_tokens is not between 0 and 1e+08"),
    "negative tokens": (setting(cache_read_tokens=-1), "cache_read_tokens is not between"),
    "negative carbon": (setting(carbon_g=-0.1), "carbon_g is not between 0 and 1e+15"),
    "absurd water": (setting(water_ml_high=1e300), "water_ml_high is not between"),
    "not a number": (GOOD.replace(b'"carbon_g":0.5', b'"carbon_g":NaN'), "not JSON"),
    "a count above 64 bits": (setting(seq=2**63), "int64"),
    "missing field": (changed(lambda record: record.pop("run_id")), "run_id is missing"),
    "null where one is needed": (setting(energy_wh=None), "energy_wh is missing"),
    "unknown field": (setting(bill_to="me"), "unexpected field"),
    "no date": (setting(time="yesterday"), "timestamp"),
    "labels that are no object": (setting(labels=["a"]), "expected an object, found list"),
    "labels that are text": (setting(labels="a"), "expected an object, found str"),
    "a label that is no text": (setting(labels={"a": 1}), "labels is not an object of texts"),
    "no source": (setting(source="here"), "source is not topic-partition-offset"),
    "a source that is no number": (setting(source="t-0-x"), "int64"),
    "a source beyond Kafka": (setting(source=f"t-0-{2**62 + 1}"), "source_offset is not between"),
    "too large": (setting(method="x" * 1024 * 1024), "larger than 1048576 bytes"),
    "lifecycle of nothing": (b'{"type":"lifecycle"}', "source: Field required"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_record_is_refused_and_its_neighbours_are_not(case: str) -> None:
    value, reason = REFUSED[case]
    bad = Recorded(TOPICS.carbon, 0, 7, value, key=b"key")
    batch = batch_of(*(carbon(n) for n in range(5)), bad, *(carbon(n) for n in range(8, 20)))
    assert batch.usages["source_offset"].to_pylist() == [*range(5), *range(8, 20)]
    (refusal,) = batch.refusals
    assert reason in refusal.reason
    assert refusal.step == "sink"
    assert refusal.source == (TOPICS.carbon, 0, 7)
    assert (refusal.key, refusal.value, refusal.refused_at) == (b"key", value, NOON)
    assert batch.next_offsets == {TopicPartition(TOPICS.carbon, 0): 20}


SPELLED_OTHERWISE = {
    "pretty": orjson.dumps(orjson.loads(GOOD), option=orjson.OPT_INDENT_2),
    "spaces before": b"  " + GOOD,
    "type last": orjson.dumps(dict(reversed(orjson.loads(GOOD).items()))),
    "labels elsewhere": b'{"type":"carbon","labels":{"a":"b"},'
    + GOOD.removeprefix(b'{"type":"carbon",').replace(b'"labels":null,', b""),
    "a space in labels": setting(labels={"a": "b"}).replace(b'"labels":{', b'"labels": {'),
    "no labels": changed(lambda record: record.pop("labels")),
    "no run totals": changed(lambda record: record.pop("run_calls")),
    "an integer for a float": setting(carbon_g=1),
    "escapes": setting(task=None).replace(b',"task":null', b"").replace(b"gpt", b"\\u0067pt"),
}


@pytest.mark.parametrize("case", SPELLED_OTHERWISE)
def test_other_spellings_of_a_good_record_are_taken(case: str) -> None:
    odd = Recorded(TOPICS.carbon, 0, 5, SPELLED_OTHERWISE[case])
    batch = batch_of(carbon(4), odd, carbon(6))
    assert batch.refusals == ()
    assert batch.usages["source_offset"].to_pylist() == [4, 5, 6]
    assert batch.usages["model"].to_pylist() == ["gpt-5"] * 3


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=4))
def test_labels_arrive_as_they_were(labels: dict[str, str]) -> None:
    batch = batch_of(carbon(1), carbon(2, labels=labels), carbon(3, labels=None))
    first, second, third = batch.usages["labels"].to_pylist()
    assert orjson.loads(second) == labels
    assert (first, third) == (None, None)


@given(st.binary(max_size=60))
def test_no_bytes_break_the_batch(value: bytes) -> None:
    for topic in (TOPICS.carbon, TOPICS.commands, TOPICS.deadletter):
        batch = decode([[Recorded(topic, 0, 3, value, headers=[("x", None)])]], TOPICS, NOON)
        assert len(batch.refusals) == 1
        assert batch.usages.num_rows == 0


def test_dead_letters_without_their_headers_are_refused_themselves() -> None:
    good = dead_letter(3, at=0)
    for broken, told in (
        ([], "a dead letter without header marlin.step"),
        ([(name, None) for name, _ in good.headers], "a dead letter without header marlin.step"),
        ([*good.headers, ("marlin.offset", b"-1")], "no Kafka position"),
        ([*good.headers, ("marlin.partition", b"x")], "invalid literal for int()"),
        ([*good.headers, ("marlin.step", b"lunch")], "step: Input should be"),
        ([*good.headers, ("marlin.reason", b"\xff")], "utf-8"),
    ):
        record = Recorded(TOPICS.deadletter, 1, 9, b"value", headers=broken)
        (refusal,) = batch_of(record).refusals
        assert told in refusal.reason
        assert (refusal.step, refusal.source) == ("sink", (TOPICS.deadletter, 1, 9))
        assert refusal.value == b"value"


def test_kinds_are_told_apart() -> None:
    batch = batch_of(started(0), carbon(1), command(at=2), dead_letter(3, at=4), started(2))
    assert [record.source for record in batch.lifecycle] == [
        f"{TOPICS.events}-0-0",
        f"{TOPICS.events}-0-2",
    ]
    assert batch.usages.num_rows == 1
    assert [one.command_id for one in batch.commands] == ["command-0"]
    assert [(one.step, one.source) for one in batch.refusals] == [("decode", (TOPICS.events, 0, 3))]
    assert batch.next_offsets == {
        TopicPartition(TOPICS.carbon, 0): 3,
        TopicPartition(TOPICS.commands, 0): 3,
        TopicPartition(TOPICS.deadletter, 0): 5,
    }


def test_a_lifecycle_position_beyond_kafka_is_refused() -> None:
    value = (started(0).value or b"").replace(b"-0-0", f"-0-{2**63}".encode())
    (refusal,) = batch_of(Recorded(TOPICS.carbon, 0, 0, value)).refusals
    assert "no Kafka position" in refusal.reason
