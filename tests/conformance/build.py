"""Short ways to say what goes into a pile, and to look at what came of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from stepwell.engine.run import RunStatus
from stepwell.store.protocol import Store
from stepwell.store.records import (
    FOREVER,
    Cancel,
    Claim,
    Consume,
    End,
    EventRow,
    Limit,
    Park,
    Parked,
    Pile,
    Start,
    StepKind,
    StepRow,
    Tick,
    TickOutcome,
    TriggerKind,
    Turn,
    Wait,
)
from stepwell.store.results import Claimed, News, PileResult
from stepwell.store.views import RunFilter, RunnerRow

SECOND = 1_000_000
DAY = 86_400 * SECOND
T0 = 1_800_000_000 * SECOND
"""The instant at which every test begins."""
POOLS = ("p", "q")
FUNCTIONS = ("f", "g")
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


# --- what goes in ---


def run_id(number: int, at: int = T0) -> str:
    """The id of a run made at that instant."""
    rest, digits = at // 1000, ""
    for _ in range(10):
        rest, digit = divmod(rest, 32)
        digits = ALPHABET[digit] + digits
    return f"{digits}{number:016d}"


def start(number: int, function: str = "f", **more: Any) -> Start:
    """A run that is due."""
    given: dict[str, Any] = {
        "run_id": run_id(number),
        "function_id": function,
        "revision": "r1",
        "pool": "p",
        "trigger": TriggerKind.EVENT,
        "input": b'[{"id":"e","name":"n"}]',
        "event_ids": (),
        "created": T0,
        "due": T0,
    }
    return Start(**{**given, **more})


def event(name: str, body: bytes = b"{}", **more: Any) -> EventRow:
    """An event whose id is its name too."""
    given: dict[str, Any] = {"id": name, "name": name, "data": body, "body_hash": hashlib.sha256(body).digest(), "ts": T0}
    return EventRow(**{**given, **more})


def step(name: str, value: bytes = b"1", kind: StepKind = StepKind.RUN, **more: Any) -> StepRow:
    """A step that went well at the first try."""
    given: dict[str, Any] = {"occurrence": 0, "ok": True, "attempts": 1, "started": T0 + 5, "ended": T0 + 6}
    return StepRow(step_id=name, kind=kind, value=value, **{**given, **more})


def wait(step_id: str, kind: StepKind = StepKind.EVENT, **more: Any) -> Wait:
    """An open wait that nothing ends by itself."""
    given: dict[str, Any] = {"occurrence": 0, "due": FOREVER, "opened": T0 + 1}
    return Wait(kind=kind, step_id=step_id, **{**given, **more})


def turn(claimed: Claimed, *steps: StepRow, **more: Any) -> Turn:
    """What the execution of a claimed run commits."""
    return Turn(claimed.run_id, claimed.epoch, steps, **more)


def close(name: str, kind: StepKind = StepKind.EVENT) -> tuple[str, int, StepKind]:
    """An open wait that a turn resolves itself."""
    return (name, 0, kind)


def consume(claimed: Claimed, name: str, value: bytes = b'{"id":"e"}', event: int = -1) -> Consume:
    """Give an event to an open wait."""
    return Consume(event, claimed.run_id, StepKind.EVENT, name, 0, value)


def park(due: int = FOREVER, state: Parked = Parked.WAITING, **more: Any) -> Park:
    """Give the lease back."""
    return Park(due, state, **more)


def done(value: bytes = b'"done"') -> End:
    """The run has completed."""
    return End(RunStatus.COMPLETED, value)


def failed(message: str = "boom") -> End:
    """The run has failed."""
    return End(RunStatus.FAILED, error(message))


def cancel(number: int, **more: Any) -> Cancel:
    """Cancel a run."""
    return Cancel(run_id(number), error("cancelled"), **more)


def error(message: str) -> bytes:
    """An error as it is stored."""
    return orjson.dumps({"name": "Error", "message": message})


def tick(due: int, outcome: TickOutcome = TickOutcome.FIRED, **more: Any) -> Tick:
    """One due instant of the schedule `s`."""
    return Tick("s", due, outcome, "on time", more.pop("next_due", due + 60 * SECOND), **more)


# --- the well ---


@dataclass
class Well:
    """A store, and the clock that it looks at."""

    store: Store
    clock: list[int]

    @property
    def now(self) -> int:
        """The instant that the store takes for now."""
        return self.clock[0]

    def later(self, seconds: float) -> int:
        """Let time pass."""
        self.clock[0] += round(seconds * SECOND)
        return self.now

    async def commit(self, **kinds: Any) -> PileResult:
        """Commit a pile of these kinds at this instant."""
        return await self.store.commit(Pile(now=self.now, **kinds))

    async def enrol(self, runner: str, lease: int = 60 * SECOND, *, draining: bool = False) -> None:
        """Give a runner a lease."""
        await self.store.enrol(RunnerRow(runner, POOLS, FUNCTIONS, 10, lease, draining))

    async def start(self, *starts: Start) -> None:
        """Start runs; all of them land."""
        result = await self.commit(starts=starts)
        assert all(one.landed for one in result.starts)

    async def claim(self, room: int = 10, runner: str = "A", **more: Any) -> PileResult:
        """Claim for a runner."""
        return await self.commit(claim=asking(room, runner, **more))

    async def claimed(self, room: int = 10, runner: str = "A", **more: Any) -> list[str]:
        """The runs that a claim gets."""
        return [one.run_id for one in (await self.claim(room, runner, **more)).claimed]

    async def running(self, number: int, **more: Any) -> Claimed:
        """Start one run and claim it."""
        await self.start(start(number, **more))
        return await self.resumed(number)

    async def resumed(self, number: int, runner: str = "A") -> Claimed:
        """Claim everything, and this run is part of it."""
        found = {one.run_id: one for one in (await self.claim(100, runner)).claimed}
        return found[run_id(number)]

    async def parked(self, number: int, *opens: Wait, then: Park | None = None, **more: Any) -> Claimed:
        """A run that has opened these waits and given its lease back."""
        claimed = await self.running(number, **more)
        result = await self.commit(turns=(turn(claimed, opens=opens, then=then or park()),))
        assert result.turns[0].landed
        assert not result.turns[0].refused
        return claimed

    async def status(self, number: int) -> RunStatus | None:
        """What a run is doing."""
        row = await self.store.run(run_id(number))
        return row.status if row is not None else None

    async def journal(self, number: int) -> list[tuple[str, bytes]]:
        """A run's recorded steps: id and value, in order."""
        return [(one.step.step_id, one.step.value) for one in await self.store.steps(run_id(number))]

    async def waits(self, number: int) -> list[str]:
        """The ids of a run's open waits."""
        row = await self.store.run(run_id(number))
        return [one.step_id for one in row.waits] if row is not None else []

    async def news(self, *watch: tuple[Claimed, int], runner: str = "A") -> list[News]:
        """What is new of held runs, each with the inbox it has seen."""
        asked = tuple((claimed.run_id, claimed.epoch, inbox) for claimed, inbox in watch)
        return list((await self.claim(0, runner, watch=asked)).news)

    async def picture(self) -> list[Any]:
        """All that people can see of the well, to compare."""
        runs = await self.store.runs(RunFilter(limit=1000))
        seen: list[Any] = [await self.store.events(None, None, 1000), await self.store.ledger("s", 1000)]
        for one in runs:
            seen += [await self.store.run(one.run_id), await self.store.steps(one.run_id)]
            seen.append(await self.store.attempts_between(one.run_id))
        return [*seen, await self.store.journals([one.run_id for one in runs])]


def asking(room: int = 10, runner: str = "A", limits: Sequence[Limit] = (), **more: Any) -> Claim:
    """A claim of all pools and functions."""
    return replace(Claim(runner, POOLS, FUNCTIONS, room, tuple(limits)), **more)
