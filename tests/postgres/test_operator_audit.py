"""What the operator does to a well is written down: a row in its store and one line in the log each, that say the same."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from postgres.conftest import Open
from postgres.holding import hold_on
from postgres.piles import start, ulid
from structlog.testing import capture_logs
from unit.operator.observations import NAME, register_of, target_at

from stepwell.engine.run import RunStatus
from stepwell.store.access import AuditFilter
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import Pile
from stepwell_operator.plan import Register
from stepwell_operator.wells import Wells

KEY = ("shop", "default")
OWNER = f"dfn/{NAME}"


@pytest.fixture
async def store(open_store: Open) -> PostgresStore:
    """An empty well."""
    return await open_store()


@pytest.fixture
def wells(store: PostgresStore) -> Wells:
    """An operator's hold on that well; no API server is asked for its address."""
    return hold_on(store, KEY)


async def rows(store: PostgresStore) -> list[tuple[str, str, str, str]]:
    """The audit's rows, the oldest first."""
    found = await store.audit(AuditFilter())
    return [(one.actor, one.verb, one.object, one.decision) for one in reversed(found)]


def lines(logged: list[Any]) -> list[tuple[str, str, str, str]]:
    """The audit's lines."""
    return [(one["actor"], one["verb"], one["object"], one["decision"]) for one in logged if one["event"] == "audit"]


def register(version: int, **more: Any) -> Register:
    return register_of(target_at(version, **more))


async def test_changed_specs_are_audited(wells: Wells, store: PostgresStore) -> None:
    """A new function, a changed spec, a suspension and a deletion are a row and a line each; what changes nothing is none."""
    facts = await wells.look(*KEY)
    with capture_logs() as logged:
        for asked in (register(1), register(1), register(2), register(2, suspend=True), register(2)):
            await wells.register(facts, NAME, asked)
        await wells.retire(facts, NAME, cancel=True)
        await wells.retire(facts, NAME, cancel=True)
    verbs = ["register", "change", "retire", "change", "retire"]
    assert lines(logged) == [(OWNER, verb, "functions/one", "allowed") for verb in verbs]
    assert await rows(store) == lines(logged)


async def test_what_is_cancelled_with_a_function_is_audited(wells: Wells, store: PostgresStore) -> None:
    """Runs that a deletion cancels are a row and a line for each function: how many, and why; while they may end by themselves none."""
    facts = await wells.look(*KEY)
    asked = register(1)
    await wells.register(facts, NAME, asked)
    starts = [replace(start(ulid(number)), function_id="one", revision=asked.revision, pool=asked.pool) for number in range(3)]
    await store.commit(Pile(starts=tuple(starts)))
    with capture_logs() as logged:
        assert not await wells.retire(facts, NAME, cancel=False)
        assert await wells.retire(facts, NAME, cancel=True)
        assert await wells.retire(facts, NAME, cancel=True)
    assert lines(logged) == [
        (OWNER, "retire", "functions/one", "allowed"),
        ("operator", "cancel runs", "functions/one", "allowed"),
    ]
    assert (await rows(store))[1:] == lines(logged)
    [act] = await store.audit(AuditFilter(actor="operator"))
    assert orjson.loads(act.detail) == logged[-1]["detail"] == {"matched": 3, "reason": "the DurableFunction was deleted"}
    assert {(await store.run(one.run_id)).status for one in starts} == {RunStatus.CANCELLED}


async def test_pauses_by_manifest_are_audited(wells: Wells, store: PostgresStore) -> None:
    """A pause by annotation, another one's and the end are a row and a line each, that name who paused it."""
    facts = await wells.look(*KEY)
    await wells.register(facts, NAME, register(1))
    with capture_logs() as logged:
        for by in ("ada", "ada", "bob", "", ""):
            await wells.hold(facts, "one", by)
    verbs = ["pause", "resume", "pause", "resume"]
    assert lines(logged) == [("operator", verb, "functions/one", "allowed") for verb in verbs]
    assert (await rows(store))[1:] == lines(logged)
    assert [one["detail"] for one in logged] == [{"by": "ada"}, {}, {"by": "bob"}, {}]
