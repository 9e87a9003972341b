"""Write piles to a file for ever, telling the number of each once it is acknowledged: python endless_writer.py PATH FIRST.

Pile N starts run N by an event, leased to this process; pile N + 1 records its steps and ends it, too.
"""

import asyncio
import sys
from itertools import count

from conformance.build import POOLS, T0, done, event, run_id, start, step

from stepwell.store.records import Pile, Turn
from stepwell.store.sqlite import SqliteStore
from stepwell.store.views import RunnerRow


async def write(path: str, first: int) -> None:
    """Never come back."""
    store = SqliteStore(path, lambda: T0)
    await store.migrate()
    await store.open()
    await store.enrol(RunnerRow("A", POOLS, ("f",), 10, 10**12, draining=False))
    for number in count(first):
        name = f"{number:09d}"
        made = start(number, event_ids=(name,), lease_to="A")
        await store.commit(Pile(events=(event(name, b'"' + b"x" * (number % 5000) + b'"'),), starts=(made,)))
        steps = tuple(step(f"s{place}") for place in range(3))
        await store.commit(Pile(turns=(Turn(run_id(number), 1, steps, then=done()),)))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2])))
