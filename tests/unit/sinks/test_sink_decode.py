"""Reading Kafka records: everything is either taken in or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marlin.schemas import Carbon, SourcePosition, Usage
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
from marlin.sinks.untyped import is_dict


def changed(change: Callable[[dict[str, Any]], object], source: int = 5) -> bytes:
    """The bytes of a good record after a change."""
    record = orjson.loads(carbon(source).value or b"")
    change(record)
    return orjson.dumps(record)


def setting(**fields: Any) -> bytes:
    """A good record with other fields; those of a usage event are set in it."""

    def change(record: dict[str, Any]) -> None:
        for name, value in fields.items():
            (record["usage"] if name in Usage.model_fields else record)[name] = value

    return changed(change)


GOOD = carbon(5).value or b""

REFUSED: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "no value (a tombstone)"),
    "empty": (b"", "not JSON"),
    "spaces": (b"   ", "not JSON"),
    "not utf-8": (GOOD.replace(b"gpt-5", b"gpt\xff5"), "invalid unicode"),
    "cut off": (GOOD[:-20], "Invalid JSON: EOF"),
    "two records": (GOOD + GOOD, "Invalid JSON: trailing characters"),
    "two records in lines": (GOOD + b"\n" + GOOD, "Invalid JSON: trailing characters"),
    "an array": (b"[" + GOOD + b"]", "Input should be an object"),
    "a number": (b"7", "Input should be an object"),
    "another type": (changed(lambda record: record.update(type="usage")), "type: Input should be"),
    "flat, as it was": (changed(lambda record: record.update(record.pop("usage"))), "usage: Field"),
    "no usage": (changed(lambda record: record.update(usage=None)), "usage: Input should be"),
    "text for a count": (setting(input_tokens="1"), "usage.input_tokens: Input should be"),
    "a fraction of a token": (setting(input_tokens=1.5), "usage.input_tokens: Input should be"),
    "too many tokens": (setting(output_tokens=2**62), "less than or equal to 100000000"),
    "negative tokens": (setting(cache_read_tokens=-1), "usage.cache_read_tokens: Input should be"),
    "more reasoning than output": (setting(reasoning_tokens=21), "cannot exceed it"),
    "null for a default": (setting(reasoning_tokens=None), "usage.reasoning_tokens: Input"),
    "null for a default, spaced": (
        setting(usage_quality=None).replace(b'"usage_quality":null', b'"usage_quality" : null'),
        "usage.usage_quality: Input should be",
    ),
    "an unknown quality": (setting(usage_quality="good"), "usage.usage_quality: Input should be"),
    "an empty id": (setting(run_id=""), "usage.run_id: String should have at least 1"),
    "a long id": (setting(agent_id="ä" * 257), "usage.agent_id: String should have at most 256"),
    "a long label": (setting(region="x" * 257), "usage.region: String should have at most 256"),
    "negative carbon": (setting(carbon_g=-0.1), "carbon_g: Input should be greater than"),
    "absurd water": (setting(water_ml_high=1e300), "Expected `float` <= 1000000000000000.0"),
    "not a number": (GOOD.replace(b'"carbon_g":0.5', b'"carbon_g":NaN'), "carbon_g: Input should"),
    "a number above 64 bits": (setting(seq=2**63), "usage.seq: Input should be less than"),
    "missing field": (changed(lambda record: record["usage"].pop("run_id")), "usage.run_id: Field"),
    "missing footprint": (changed(lambda record: record.pop("energy_wh")), "energy_wh: Field"),
    "null where one is needed": (setting(energy_wh=None), "energy_wh: Input should be a valid num"),
    "null for a code": (setting(quality=["region_world", None]), "quality.1: Input should be"),
    "unknown field": (setting(bill_to="me"), "bill_to: Extra inputs are not permitted"),
    "unknown field in the event": (
        changed(lambda record: record["usage"].update(bill_to="me")),
        "usage.bill_to: Extra inputs are not permitted",
    ),
    "no date": (setting(time="yesterday"), "usage.time: Input should be a valid datetime"),
    "an hour alone": (setting(time="2026-05-01T12Z"), "usage.time: Input should be a valid datet"),
    "another time zone": (setting(time="2026-05-01T12:00:00+02:00"), "usage.time: Timezone offset"),
    "the year 0": (setting(time="0000-05-01T12:00:00Z"), "usage.time: Input should be a valid da"),
    "labels that are no object": (setting(labels=["a"]), "usage.labels: Input should be"),
    "labels that are text": (setting(labels="a"), "usage.labels: Input should be"),
    "a label that is no text": (setting(labels={"a": 1}), "usage.labels.a: Input should be"),
    "a label without a name": (
        setting(labels={"": "a"}, usage_quality="partial"),
        "usage.labels..[key]: String should have at least 1",
    ),
    "too many labels": (
        setting(labels={str(n): "" for n in range(33)}, usage_quality="partial"),
        "usage.labels: Dictionary should have at most 32",
    ),
    "no source": (setting(source="here"), "source: String should match pattern"),
    "a source that is no number": (setting(source="t-0-x"), "source: String should match pattern"),
    "a hexadecimal source": (setting(source="t-0-0x10"), "source: String should match pattern"),
    "a source without a topic": (setting(source="-0-1"), "source: String should match pattern"),
    "a source beyond Kafka": (setting(source=f"t-0-{2**62 + 1}"), "source_offset is not between"),
    "a partition beyond Kafka": (setting(source=f"t-{2**31}-1"), "source_partition is not betwee"),
    "too large": (setting(quality=["x" * 1024 * 1024]), "larger than 1048576 bytes"),
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
    "labels elsewhere": GOOD.replace(b'"usage":{', b'"usage":{"labels":{"a":"b"},'),
    "a space in labels": setting(labels={"a": "b"}).replace(b'"labels":{', b'"labels": {'),
    "no defaults": changed(
        lambda record: [
            record["usage"].pop(name)
            for name in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
        ]
    ),
    "nulls that are allowed": setting(latency_s=None, cost_usd=None, tenant=None, labels=None),
    "a spaced null": GOOD.replace(b'"tenant":"acme"', b'"tenant": null'),
    "the word null": setting(tenant="null"),
    "an integer for a float": setting(carbon_g=1),
    "escapes": GOOD.replace(b"gpt", b"\\u0067pt"),
    "an escaped name": GOOD.replace(b'"cost_usd"', b'"cost\\u005fusd"'),
    "a key twice": GOOD.replace(b'"tenant":"acme"', b'"tenant":"other","tenant":"acme"'),
    "digits beyond microseconds": setting(time="2026-05-01T12:00:05.123456789Z"),
    "an offset of zero": setting(time="2026-05-01T12:00:05+00:00"),
    "a time with a blank": setting(time="2026-05-01 12:00:05Z"),
    "long, but not in characters": setting(agent_id="ä" * 256),
    "a count above 64 bits that is not stored": GOOD.replace(
        b'"run_calls":6', b'"run_calls":9223372036854775808'
    ),
    "no type in the event": changed(lambda record: record["usage"].pop("type")),
}


@pytest.mark.parametrize("case", SPELLED_OTHERWISE)
def test_other_spellings_of_a_good_record_are_taken(case: str) -> None:
    value = SPELLED_OTHERWISE[case]
    odd = Recorded(TOPICS.carbon, 0, 5, value)
    batch = batch_of(carbon(4), odd, carbon(6))
    assert batch.refusals == ()
    assert batch.usages["source_offset"].to_pylist() == [4, 5, 6]
    assert row_of(batch.usages, 1) == told_by_contract(value)


def row_of(usages: Any, index: int) -> dict[str, Any]:
    """A row of the batch, as `told_by_contract` has it."""
    row: dict[str, Any] = usages.slice(index, 1).to_pylist()[0]
    row["labels"] = orjson.loads(row["labels"] or b"null")
    return row


def told_by_contract(value: bytes) -> dict[str, Any]:
    """What the contract reads."""
    record = Carbon.model_validate_json(value)
    source = SourcePosition.parse(record.source)
    told = record.usage.model_dump(exclude={"type"}) | record.model_dump(
        exclude={"type", "source", "usage", "run_calls", "run_energy_wh"}
        | {"run_carbon_g", "run_water_ml"}
    )
    return told | {
        "quality": list(record.quality),
        "source_topic": source.topic,
        "source_partition": source.partition,
        "source_offset": source.offset,
    }


HOSTILE: list[Any] = [
    *(None, True, [], {}, "", "x", "ä" * 200, "x" * 257, "null", "\n", "\x00", '"', "\\"),
    *(0, -1, 1.5, -0.0, 7, 10**8, 10**8 + 1, 2**53, 2**53 + 1, 2**63, 2**64 - 1, 1e14),
    *("2026-05-01", "2026-05-01T12:00Z", "2026-05-01T12:00:00", "2026-05-01T12:00:00.5Z"),
    *("2026-05-01T12:00:00-00:00", "1969-05-01T12:00:00Z", "9999-12-31T23:59:59.999999Z"),
    *("usage", "carbon", "missing", "t-1-2", "t--1-2", "a-b-1-2", "\n-1-2", "t-1-+2", "0x10"),
    *({"a": "b"}, {"a": None}, {"usage": {"type": "usage"}}, ["a", "b"], ["a", 1]),
]


@st.composite
def tampered(draw: st.DrawFn) -> bytes:
    """A good record after a few changes to its fields and its spelling."""
    labels = draw(st.sampled_from([None, {"a": "b"}]))
    record: dict[str, Any] = orjson.loads(carbon(5, labels=labels).value or b"")
    for _ in range(draw(st.integers(0, 2))):
        usage = record.get("usage")
        where: dict[str, Any] = draw(st.sampled_from([record, usage if is_dict(usage) else record]))
        name = draw(st.sampled_from([*where, "labels", "unknown"]))
        if draw(st.booleans()):
            where[name] = draw(st.sampled_from(HOSTILE))
        else:
            where.pop(name, None)
    value = b'{"type":"carbon",' + orjson.dumps(record).removeprefix(b'{"type":"carbon",')
    for _ in range(draw(st.integers(0, 1))):
        old, new = draw(st.sampled_from(RESPELLINGS))
        value = value.replace(old, new, 1)
    return value


RESPELLINGS = [
    *((b",", b",,"), (b":", b": "), (b",", b",\n"), (b'"usage":{', b'"usage":{"seq":0,')),
    *((b"100", b"1e2"), (b"100", b"0100"), (b"100", b"+100"), (b"100", b"100.0"), (b"20", b"-0")),
    *((b"0.5", b".5"), (b"0.5", b"5E-1"), (b"0.5", b"NaN"), (b"0.5", b"Infinity"), (b"e", b"E")),
    *((b"agent", b"\\u0061gent"), (b"gpt", b"\\ud800"), (b"gpt", b"g\x01t"), (b"gpt", b"\xc3")),
    *((b"gpt", b"\xed\xa0\x80"), (b"}", b"},"), (b"}", b""), (b"{", b"{{"), (b'"', b"'")),
    *((b"null", b"nul"), (b"_tokens", b"\\u005ftokens"), (b"Z", b"z"), (b"Z", b"")),
]


@settings(max_examples=200, deadline=None)
@given(tampered())
def test_accepted_is_exactly_what_the_contract_accepts(value: bytes) -> None:
    """Beside it, the sink refuses what its database cannot hold."""
    try:
        expected = told_by_contract(value)
    except ValidationError:
        expected = None
    batch = batch_of(carbon(4), Recorded(TOPICS.carbon, 0, 5, value), carbon(6))
    if expected is None or not is_possible(expected):
        assert len(batch.refusals) == 1
        assert batch.usages["seq"].to_pylist() == [4, 6]
    else:
        assert batch.refusals == ()
        assert row_of(batch.usages, 1) == expected


def is_possible(row: dict[str, Any]) -> bool:
    numbers = [number for number in row.values() if isinstance(number, float)]
    return max(numbers) <= 1e15 and row["source_offset"] <= 2**62


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
