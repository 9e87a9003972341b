"""One group committer a process and well: operations pile up, and a pile is one statement in one transaction.

    submit ──▶ waiting ──▶ pile ──▶ store.commit ──▶ whoever waits is told
                  ▲                      │
                  └── grows meanwhile ◀──┘

There is no timer: an idle committer writes at once, a busy one batches by itself. Nobody is told before the
commit. A pile that is refused because the registry moved, or because open waits share a key with its events, is planned again
and sent again. A pile that the store refuses as a whole is halved until the one bad operation stands alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from stepwell.clock import Clock
from stepwell.engine.crashpoint import NAME, crashpoint_of
from stepwell.engine.pile import Done, Hooks, Op, PlannedPile, startable
from stepwell.engine.registry import KnownRegistry
from stepwell.errors import StepwellError, StoreError, StoreUnavailable
from stepwell.store.protocol import Store

MOST_OPS = 500
MOST_BYTES = 1 << 20
MOST_WAITING = 20_000
OVERLAP_FROM = 64
"""A second flusher joins in once this many operations wait while the first commits."""


class Committer:
    """Write what coroutines submit, in piles. `flushers` commits may overlap (one on SQLite, two on Postgres)."""

    def __init__(self, store: Store, clock: Clock, refresh: Callable[[], Awaitable[KnownRegistry]], hooks: Hooks) -> None:
        self.store = store
        self.clock = clock
        self.hooks = hooks
        self.registry = KnownRegistry()
        self.flushers = 1
        self.piles = 0
        self.ops = 0
        self._refresh = refresh
        self._waiting: list[Op] = []
        self._flushing: set[asyncio.Task[None]] = set()
        self._kicked = False
        self._room: asyncio.Future[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being written."""
        return not self._waiting and not self._flushing

    def put(self, op: Op) -> None:
        """Put an operation on the pile; it is told once it is durable."""
        self._waiting.append(op)
        if not self._kicked:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._kick)

    async def submit(self, op: Op) -> Done:
        """Put an operation on the pile and come back once it is durable."""
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        op.tell = _teller(future)
        self.put(op)
        return await future

    async def room(self) -> None:
        """Wait while the backlog is over its bound; producers from outside call it first."""
        while len(self._waiting) > MOST_WAITING:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    async def drain(self) -> None:
        """Wait until all that was submitted is written."""
        while not self.idle:
            if self._flushing:
                await asyncio.wait(self._flushing)
            else:
                await asyncio.sleep(0)

    def abandon(self) -> None:
        """Write nothing more and tell nobody."""
        self._waiting.clear()
        for task in self._flushing:
            task.cancel()

    def _kick(self) -> None:
        self._kicked = False
        busy = len(self._flushing)
        if self._waiting and (busy == 0 or (busy < self.flushers and len(self._waiting) >= OVERLAP_FROM)):
            ops = self._take()
            task = asyncio.get_running_loop().create_task(self._flush(ops))
            self._flushing.add(task)
            task.add_done_callback(self._flushed)

    def _flushed(self, task: "asyncio.Task[None]") -> None:
        self._flushing.discard(task)
        if self._room is not None and len(self._waiting) <= MOST_WAITING // 2:
            self._room.set_result(None)
            self._room = None
        self._kick()

    def _take(self) -> list[Op]:
        size = count = 0
        for op in islice(self._waiting, MOST_OPS):
            size += op.size
            count += 1
            if size > MOST_BYTES:
                break
        ops, self._waiting = self._waiting[:count], self._waiting[count:]
        return ops

    async def _flush(self, ops: list[Op]) -> None:
        try:
            await self._write(ops)
        except StoreUnavailable as error:
            _fail([op for op in ops if not op.patient], error)
            patient = [op for op in ops if op.patient]
            if patient:
                await self._retry(patient)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one operation behind it fails alone
            if len(ops) == 1:
                _fail(ops, error if isinstance(error, StepwellError) else StoreError(f"the commit broke: {error!r}"))
                return
            await self._flush(ops[: len(ops) // 2])
            await self._flush(ops[len(ops) // 2 :])

    async def _retry(self, ops: list[Op]) -> None:
        pause = 0.05
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
            try:
                await self._write(ops)
            except StoreUnavailable:
                continue
            except Exception:  # noqa: BLE001 - the flush halves them until the bad one stands alone
                await self._flush(ops)
            return

    async def _write(self, ops: Sequence[Op]) -> None:
        """Plan, commit, and plan again while the store says that the plan is out of date."""
        decided = False
        while True:
            ops = startable(ops, self.registry)
            if not ops:
                return
            made = PlannedPile(ops, self.registry, self.clock.now(), self.hooks)
            try:
                pile = made.pile(self.clock.pinned(), decided=False)
                if NAME:
                    crashpoint_of(pile, "before")
                result = await self.store.commit(pile)
                if NAME:
                    crashpoint_of(pile, "after")
                if result.candidates and not decided:
                    made.decide(result)
                    result = await self.store.commit(made.pile(self.clock.pinned(), decided=True))
            except BaseException:
                if made.claim is not None or made.fused:
                    self.hooks.doubt()
                made.unfuse()
                raise
            self.clock.observe(result.now)
            if not result.stale:
                break
            made.unfuse()
            self.registry = await self._refresh()
        self.piles += 1
        self.ops += len(ops)
        made.resolve(result)


def _fail(ops: Sequence[Op], error: Exception) -> None:
    for op in ops:
        op.tell(error)


def _teller(future: "asyncio.Future[Done]") -> Callable[[Done | Exception], None]:
    def tell(done: Done | Exception) -> None:
        if future.done():
            return
        if isinstance(done, Exception):
            future.set_exception(done)
        else:
            future.set_result(done)

    return tell
