"""Cancel all that lives of a function, from outside of any well's process: what an operator does when a function is deleted."""

from stepwell import values
from stepwell.engine.registry import KnownRegistry, parse
from stepwell.engine.run import RunStatus
from stepwell.store.protocol import Store
from stepwell.store.records import Cancel, Pile

CHUNK = 200


async def cancel_all(store: Store, function_id: str, why: str) -> int:
    """Cancel every live run of a function, in chunks; how many there were. Safe to ask again where it broke off.

    Runs that start meanwhile are cancelled too, so see to it first that it starts none. Whoever sweeps the well next tells those
    who listen to `stepwell/function.cancelled`.
    """
    error = values.canonical({"name": "Cancelled", "message": f"cancelled by {why}"})
    registry = parse(await store.registry(), KnownRegistry())
    count = 0
    while run_ids := await store.live_runs(function_id, CHUNK):
        pile = Pile(
            registry_version=registry.version,
            system_events=registry.hears_system_events,
            cancels=tuple(Cancel(run_id, error) for run_id in run_ids),
        )
        result = await store.commit(pile)
        if result.stale:
            registry = parse(await store.registry(), registry)
            continue
        count += sum(status is RunStatus.CANCELLED for status in result.cancels)
        await store.hint(",".join(result.ready))
    return count
