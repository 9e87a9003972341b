"""`POST /e/{key}`: each event's fate is told, nothing valid is lost, nothing broken gets in."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepwell.settings import GatewaySettings

JSON = {"Content-Type": "application/json"}
KIB = 1024


async def test_one_event_is_accepted(gateway: Any) -> None:
    """One event gets an id, is stored, and can be read back as it was sent."""
    answer = await gateway.send({"name": "order/created", "data": {"total": 1.5, "ä": [None, True]}})
    assert answer.status_code == 200
    told = answer.json()
    assert told["status"] == 200
    assert told["results"] == [{"id": told["ids"][0], "status": "accepted"}]
    event = await gateway.data(f"/v1/events/{told['ids'][0]}")
    assert (event["name"], event["data"], event["functions"]) == ("order/created", {"total": 1.5, "ä": [None, True]}, [])


async def test_a_list_is_accepted_in_order(gateway: Any) -> None:
    """A list of events answers with their ids in the order sent."""
    answer = await gateway.send([{"name": "a", "id": "1"}, {"name": "b", "id": "2"}, {"name": "c"}])
    assert answer.status_code == 200
    assert answer.json()["ids"][:2] == ["1", "2"]
    assert [result["status"] for result in answer.json()["results"]] == ["accepted"] * 3


async def test_an_empty_list_is_fine(gateway: Any) -> None:
    """No events are accepted as what they are."""
    answer = await gateway.send([])
    assert (answer.status_code, answer.json()) == (200, {"ids": [], "status": 200, "results": []})


async def test_a_resent_event_is_a_duplicate(gateway: Any) -> None:
    """The same event again is a 200 and stored once."""
    event = {"name": "a", "id": "same", "data": {"n": 1}}
    await gateway.send(event)
    answer = await gateway.send(event)
    assert answer.status_code == 200
    assert answer.json()["results"] == [{"id": "same", "status": "duplicate"}]
    assert len(await gateway.data("/v1/events")) == 1


async def test_the_same_id_with_another_body_is_a_409(gateway: Any) -> None:
    """The same id with other data is a conflict, and the first event stays."""
    await gateway.send({"name": "a", "id": "same", "data": {"n": 1}})
    answer = await gateway.send({"name": "a", "id": "same", "data": {"n": 2}})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["results"][0]["status"] == "conflict"
    assert answer.json()["ids"] == []
    assert (await gateway.data("/v1/events/same"))["data"] == {"n": 1}


async def test_a_batch_tells_each_fate_and_loses_nothing_valid(gateway: Any) -> None:
    """In a batch each event is judged alone: the good are stored, the bad are told with their place and reason."""
    await gateway.send({"name": "a", "id": "known", "data": {"n": 1}})
    batch = [
        {"name": "a", "id": "new"},
        {"name": "a", "id": "known", "data": {"n": 1}},
        {"name": "a", "id": "known", "data": {"n": 2}},
        {"name": "", "id": "nameless"},
        {"name": "inngest/function.failed", "id": "theirs"},
        {"name": "a", "id": "nul", "data": {"text": "\0"}},
        7,
        {"name": "a", "id": "last"},
    ]
    answer = await gateway.send(batch)
    assert answer.status_code == 400
    told = answer.json()
    fates = [result["status"] for result in told["results"]]
    assert fates[:5] == ["accepted", "duplicate", "conflict", "invalid", "invalid"]
    assert fates[6:] == ["invalid", "accepted"]
    assert told["status"] == 400
    assert "events[3].name" in told["results"][3]["error"]
    assert {"new", "known", "last"} <= set(told["ids"])
    assert (await gateway.data("/v1/events/last"))["name"] == "a"
    assert (await gateway.http.get("/v1/events/theirs")).status_code == 404


async def test_a_batch_with_a_conflict_alone_is_a_409(gateway: Any) -> None:
    """Where conflicts are all that is wrong with a batch it is a 409."""
    answer = await gateway.send(
        [{"name": "a", "id": "x", "data": {}}, {"name": "b", "id": "x", "data": {}}, {"name": "c", "id": "y"}]
    )
    assert answer.status_code == 409
    assert [result["status"] for result in answer.json()["results"]] == ["accepted", "conflict", "accepted"]
    assert answer.json()["ids"] == ["x", "y"]


@pytest.mark.parametrize("name", ["stepwell/x", "inngest/function.finished", "stepwell/function.invoked"])
async def test_our_own_names_are_refused(gateway: Any, name: str) -> None:
    """Names that the engine keeps to itself can't be sent."""
    answer = await gateway.send({"name": name, "data": {}})
    assert answer.status_code == 400
    assert "stepwell/" in answer.json()["detail"]


MALFORMED = [
    b"",
    b"   ",
    b"{",
    b"}",
    b"[",
    b"[{]",
    b"nonsense",
    b"'a'",
    b"null",
    b"7",
    b'"text"',
    b"true",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'{"name": "a", "data": {"n": NaN}}',
    b'{"name": "a", "data": {"n": Infinity}}',
    b'{"name": "a", "data": {"n": 1e999}}',
    b'{"name": "a", "data": {"s": "\\ud800"}}',
    b'{"name": "a", "data": {"s": "\xc3\x28"}}',
    b'{"name": "a",}',
    b'{"name": "a"} x',
    b'{"name": "a"}{"name": "b"}',
    b"{name: 1}",
    b"{}",
    b'{"name": 7}',
    b'{"name": null}',
    b'{"name": ""}',
    b'{"name": "' + b"x" * 256 + b'"}',
    b'{"name": "a\\u0000"}',
    b'{"name": "a\\nb"}',
    b'{"name": "a", "data": []}',
    b'{"name": "a", "data": "x"}',
    b'{"name": "a", "id": 7}',
    b'{"name": "a", "id": {}}',
    b'{"name": "a", "id": "' + b"x" * 5000 + b'"}',
    b'{"name": "a", "ts": "now"}',
    b'{"name": "a", "ts": 1.5}',
    b'{"name": "a", "ts": -1}',
    b'{"name": "a", "ts": true}',
    b'{"name": "a", "ts": 99999999999999999}',
    b'{"name": "a", "v": 1}',
    b'{"name": "a", "data": ' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: body[:40].decode("utf-8", "replace"))
async def test_malformed_bodies_are_400(gateway: Any, body: bytes) -> None:
    """Whatever is no event is a 400 problem that says why, and nothing is stored."""
    answer = await gateway.http.post("/e/k", content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert await gateway.data("/v1/events") == []


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "json"]
)
async def test_other_content_types_are_415(gateway: Any, kind: str | None) -> None:
    """Only what says that it is JSON is read: a page of another site can send the rest unasked."""
    headers = {} if kind is None else {"Content-Type": kind}
    answer = await gateway.http.post("/e/k", content=b'{"name": "a"}', headers=headers)
    assert answer.status_code == 415
    assert await gateway.data("/v1/events") == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json"])
async def test_json_content_types_are_taken(gateway: Any, kind: str) -> None:
    """JSON may be spelled in all its ways."""
    answer = await gateway.http.post("/e/k", content=b'{"name": "a"}', headers={"Content-Type": kind})
    assert answer.status_code == 200


async def test_compressed_bodies_are_415(gateway: Any) -> None:
    """A compressed body is refused rather than inflated."""
    answer = await gateway.http.post("/e/k", content=b"\x1f\x8b", headers={**JSON, "Content-Encoding": "gzip"})
    assert answer.status_code == 415


async def test_an_event_over_its_limit_is_413(gateway: Any) -> None:
    """An event over 512 KiB is a 413 that names the limit; one just under it is accepted."""
    over = {"name": "a", "data": {"text": "x" * (512 * KIB)}}
    under = {"name": "a", "data": {"text": "x" * (511 * KIB)}}
    answer = await gateway.send(over)
    assert answer.status_code == 413
    assert "512 KiB" in answer.json()["detail"]
    assert (await gateway.send(under)).status_code == 200


async def test_a_large_event_in_a_batch_fails_alone(gateway: Any) -> None:
    """One event over the limit in a batch is told as such, and the others are stored."""
    answer = await gateway.send([{"name": "a", "id": "ok"}, {"name": "b", "id": "big", "data": {"text": "x" * (600 * KIB)}}])
    assert answer.status_code == 413
    assert [result["status"] for result in answer.json()["results"]] == ["accepted", "invalid"]
    assert answer.json()["ids"] == ["ok"]


async def test_too_many_events_are_413(gateway: Any) -> None:
    """More than a thousand events in one request are refused as a whole; a thousand are fine."""
    assert (await gateway.send([{"name": "a"}] * 1001)).status_code == 413
    assert (await gateway.send([{"name": "a"}] * 1000)).status_code == 200


async def test_the_body_is_counted_while_it_streams(gateway: Any) -> None:
    """An endless body is cut off at the limit, not when it ends."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"["
        while True:
            sent += 1
            yield b" " * (64 * KIB)

    answer = await gateway.http.post("/e/k", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert sent < 100


async def test_a_declared_length_is_believed_before_reading(gateway: Any) -> None:
    """A body that declares to be too long is refused without a byte of it."""

    async def never() -> AsyncIterator[bytes]:
        await asyncio.get_running_loop().create_future()
        yield b""

    answer = await gateway.http.post("/e/k", content=never(), headers={**JSON, "Content-Length": str(100 * KIB * KIB)})
    assert answer.status_code == 413


async def test_a_body_that_never_comes_is_408(open_gateway: Any) -> None:
    """Who sends headers and then nothing is let go after a while."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.get_running_loop().create_future()

    async with open_gateway(GatewaySettings(open=True, body_seconds=0.05)) as gateway:
        answer = await gateway.http.post("/e/k", content=slow(), headers=JSON)
    assert answer.status_code == 408


async def test_ingest_is_counted_by_result(gateway: Any) -> None:
    """Every event is counted by what became of it, in names that hold no id."""
    await gateway.send([{"name": "a", "id": "secret-id"}, {"name": "a", "id": "secret-id"}, {"name": ""}])
    await gateway.send({"name": "b", "id": "secret-id"})
    await gateway.http.post("/e/k", content=b"{", headers=JSON)
    text = (await gateway.http.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("stepwell_events_received_total")]
    counted = {line.split('result="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert counted["accepted"] == 1
    assert counted["duplicate"] == 1
    assert counted["conflict"] == 1
    assert counted["invalid"] == 2
    assert "stepwell_event_ingest_duration_seconds_count" in text
    assert "secret-id" not in text


async def test_numbers_come_back_as_they_were(gateway: Any) -> None:
    """Payload numbers are kept exactly: large integers, small fractions, exponents."""
    data = {"big": 2**53 - 1, "small": 1e-9, "negative": -0.1, "zero": 0}
    await gateway.http.post("/e/k", content=json.dumps({"name": "a", "id": "n", "data": data}), headers=JSON)
    assert (await gateway.data("/v1/events/n"))["data"] == data
