"""The stores of wells that are open: few, for each costs its Postgres connections, and none is closed while somebody uses it."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager

from stepwell.errors import StoreError
from stepwell.store.postgres import PostgresStore
from stepwell_operator.addresses import Unready
from stepwell_operator.contents import MOST_READ
from stepwell_operator.facts import WellKey


class Opened:
    """At most `most` stores, unless more are in use at once; those unused for longest go first. `guard`: asked before a write."""

    def __init__(self, guard: Callable[[], None], most: int = 20) -> None:
        self._guard = guard
        self._most = most
        self._open: OrderedDict[WellKey, PostgresStore] = OrderedDict()
        self._users: Counter[WellKey] = Counter()
        self._closing: set[asyncio.Task[None]] = set()

    @contextmanager
    def use(self, key: WellKey, dsn: str) -> Generator[PostgresStore]:
        """The well's store, opened if need be; raise Unready if its address can't be read."""
        found = self._open.pop(key, None)
        if found is None:
            try:
                found = PostgresStore(dsn, guard=self._guard, most=MOST_READ)
            except StoreError as error:
                raise Unready("Unreachable", f"the address in the Secret can't be read: {error}") from None
        self._open[key] = found
        self._users[key] += 1
        try:
            self._let_go()
            yield found
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
            self._let_go()

    def put(self, key: WellKey, store: PostgresStore) -> None:
        """Have this one as the well's store."""
        self._open[key] = store

    async def close(self, key: WellKey) -> None:
        """Close a well's store, used or not: its address isn't the well's any more."""
        opened = self._open.pop(key, None)
        if opened is not None:
            await opened.close()

    async def close_all(self) -> None:
        """Let go of every connection."""
        for key in list(self._open):
            await self.close(key)
        await asyncio.gather(*self._closing)

    def _let_go(self) -> None:
        idle = [key for key in self._open if key not in self._users]
        for key in idle[: max(0, len(self._open) - self._most)]:
            task = asyncio.get_running_loop().create_task(self._open.pop(key).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
