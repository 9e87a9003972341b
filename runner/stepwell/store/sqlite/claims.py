"""Claiming: the sweep, the concurrency limits, the claim itself, and the news of held runs. Runs on the writer thread."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from stepwell.store.records import FOREVER, Claim, Limit, TriggerKind
from stepwell.store.registry import HELD
from stepwell.store.results import Claimed, Lost, News, Overdue
from stepwell.store.sqlite.writing import Writing, listed
from stepwell.store.statements import load

SQL = load("stepwell.store.sqlite", "claims.sql")
POISON = 5
ROUNDS = 20
"""How often a claim looks again because what it found was blocked; the next claim goes on from there."""

WIDER = 256
"""How many more rows such a look takes."""

LOOKED_AT, ALL = 50, 10_000
"""How many blocked keys a claim that found nothing looks at, and how many a sweep."""

WITHOUT_LIMIT = 1_000
"""How many runs come back at once whose key has no limit any more."""

Row = tuple[int, str, str, str | None, str | None]
"""Something due: its due time, run, function and concurrency keys."""


def claim(writing: Writing, asked: Claim) -> dict[str, Any]:
    """Sweep if asked, claim what there is room for, and tell the news; the fields of a `PileResult`."""
    swept = _sweep(writing, asked) if asked.sweep else {}
    claimed: tuple[Claimed, ...] = ()
    runner = writing.cursor.execute(SQL["runner"], (asked.runner_id, writing.now)).fetchone() if asked.room > 0 else None
    if runner is not None:
        if runner[0] != "[]":
            paused = set(orjson.loads(runner[0]))
            asked = replace(asked, functions=tuple(name for name in asked.functions if name not in paused))
        picked = _pick(writing, asked)
        if not picked and not asked.sweep and _lift_blocks(writing, asked, LOOKED_AT):
            picked = _pick(writing, asked)
        claimed = _take(writing, asked, picked)
    news: tuple[News, ...] = ()
    if asked.watch:
        news = tuple(News(*row) for row in _read(writing, "news", listed(asked.watch), asked.runner_id))
    soon = [due for due in _read(writing, "next_due", writing.now, listed(asked.pools)) if due is not None]
    return {"claimed": claimed, "news": news, "next_due": min(soon, default=FOREVER), **swept}


def _read(writing: Writing, name: str, *args: Any) -> Any:
    return orjson.loads(writing.cursor.execute(SQL[name], args).fetchone()[0])


# --- the claim ---


@dataclass(slots=True)
class Picking:
    """What a claim has picked so far, the limits, and the leases under each key that it met, its own included."""

    room: int
    limits: dict[str, Limit]
    used: dict[str, int] = field(default_factory=dict[str, int])
    picked: dict[str, Row] = field(default_factory=dict[str, Row])

    @property
    def is_full(self) -> bool:
        """Whether there are enough."""
        return len(self.picked) >= self.room


def _pick(writing: Writing, asked: Claim) -> list[Row]:
    """What is due, in the order of due times, but for those whose concurrency key is full."""
    picking = Picking(asked.room, {limit.function_id: limit for limit in asked.limits if limit.first or limit.second})
    functions = listed(asked.functions)
    look_at = asked.room
    for _round in range(ROUNDS):
        rows = sorted(
            tuple(row)
            for pool in asked.pools
            for row in _read(writing, "claimable", pool, writing.now, POISON, functions, look_at)
            if row[1] not in picking.picked
        )
        # Beyond that a pool may have others that come first.
        del rows[look_at - len(picking.picked) :]
        blocked = _admit(writing, picking, rows)
        if not blocked or picking.is_full:
            break
        look_at = asked.room + WIDER
    return list(picking.picked.values())


def _admit(writing: Writing, picking: Picking, rows: Sequence[Row]) -> int:
    """Pick rows until there are enough, and block those that find a key full; how many those were."""
    keyed = {row[1]: _limited(row, picking.limits) for row in rows} if picking.limits else {}
    used = picking.used
    unknown = {key for limited in keyed.values() for key, _most in limited} - used.keys()
    if unknown:
        used.update(_read(writing, "leases_under", listed(unknown)))
    blocked: dict[str, str] = {}
    for row in rows:
        if picking.is_full:
            break
        limited = keyed.get(row[1], ())
        full = next((key for key, most in limited if used[key] >= most), None)
        if full is not None:
            blocked[row[1]] = full
            continue
        picking.picked[row[1]] = row
        for key in {key for key, _most in limited}:
            used[key] += 1
    if blocked:
        writing.cursor.execute(SQL["block"], (listed(blocked.items()),))
    return len(blocked)


def _limited(row: Row, limits: dict[str, Limit]) -> Sequence[tuple[str, int]]:
    _due, _run_id, function_id, key1, key2 = row
    limit = limits.get(function_id)
    if limit is None:
        return ()
    return [(key, most) for key, most in ((key1, limit.first), (key2, limit.second)) if key is not None and most > 0]


def _take(writing: Writing, asked: Claim, picked: Sequence[Row]) -> tuple[Claimed, ...]:
    if not picked:
        return ()
    due = {run_id: at for at, run_id, *_rest in picked}
    ids = listed(due)
    writing.cursor.execute(SQL["take"], (asked.runner_id, writing.now, ids))
    return tuple(
        [
            Claimed(
                run_id,
                function_id,
                revision,
                epoch,
                inbox,
                attempt,
                attempt_steps,
                due[run_id],
                created,
                TriggerKind(trigger),
                text.encode(),
                bool(recovered),
                lifted,
            )
            for (
                run_id,
                function_id,
                revision,
                epoch,
                inbox,
                attempt,
                attempt_steps,
                created,
                trigger,
                text,
                recovered,
                lifted,
            ) in _read(writing, "taken", ids)
        ]
    )


# --- the sweep ---


def _sweep(writing: Writing, asked: Claim) -> dict[str, Any]:
    lost = _expire(writing)
    _lift_blocks(writing, asked, ALL)
    hold_paused(writing)
    return {
        "recovered": len(lost),
        "lost": lost,
        "overdue": tuple(Overdue(*row) for row in _read(writing, "overdue", writing.now)),
        "outbox": tuple(_read(writing, "outbox_waiting")),
    }


def hold_paused(writing: Writing) -> None:
    """Take what is due of paused functions out of what may be claimed, and put back what is paused no longer."""
    writing.cursor.execute(SQL["hold"], (writing.now, ALL))
    writing.cursor.execute(SQL["let_go"], (writing.now, ALL))


def _expire(writing: Writing) -> tuple[Lost, ...]:
    """Free what expired leases hold; the runs that were freed."""
    gone = listed(_read(writing, "expired", writing.now))
    if gone == "[]":
        return ()
    held = _read(writing, "lost_by", gone)
    if held:
        writing.cursor.execute(SQL["recover"], (writing.now, listed(row[0] for row in held)))
    for _run_id, key1, key2, pool, *_rest in held:
        writing.freed += [key for key in (key1, key2) if key is not None]
        writing.ready.add(pool)
    writing.cursor.execute(SQL["forget"], (gone,))
    free_slots(writing)
    return tuple(
        Lost(run_id, function_id, "lease_expired" if expires else "restart", beaten)
        for run_id, _key1, _key2, _pool, function_id, expires, beaten in held
    )


def _lift_blocks(writing: Writing, asked: Claim, most: int) -> bool:
    """Unblock what has room again, of functions that this runner knows: a limit was raised or is gone, a run was cancelled."""
    limits = {limit.function_id: limit for limit in asked.limits}
    allowed: dict[str, int] = {}
    for key, place, function_id in _read(writing, "blocked_keys", most):
        limit = limits.get(function_id, Limit(function_id))
        if key.startswith(HELD):
            continue
        if function_id in limits or function_id in asked.functions:
            allowed[key] = (limit.first if place == 1 else limit.second) or WITHOUT_LIMIT
    if not allowed:
        return False
    used: dict[str, int] = _read(writing, "leases_under", listed(allowed))
    room = [(key, many - used[key]) for key, many in allowed.items() if many > used[key]]
    _unblock(writing, room)
    return bool(room)


def leave(writing: Writing, runner_id: str) -> None:
    """End a runner's lease; what it still holds is claimable at once, and nothing is counted against it."""
    gone = listed([runner_id])
    held = _read(writing, "held_by", gone)
    if held:
        writing.cursor.execute(SQL["hand_back"], (writing.now, listed(row[0] for row in held)))
    writing.cursor.execute(SQL["forget"], (gone,))
    writing.freed += [key for _run_id, key1, key2, _pool in held for key in (key1, key2) if key is not None]
    free_slots(writing)


def hand_back(writing: Writing, runner_id: str, runs: Sequence[tuple[str, int]]) -> int:
    """Make these of a runner's runs claimable at once, where the epoch is still this; how many that were."""
    held = _read(writing, "held_of", listed(runs), runner_id)
    if held:
        writing.cursor.execute(SQL["hand_back"], (writing.now, listed(row[0] for row in held)))
    writing.freed += [key for _run_id, key1, key2 in held for key in (key1, key2) if key is not None]
    free_slots(writing)
    return len(held)


# --- concurrency slots ---


def free_slots(writing: Writing) -> None:
    """Let as many blocked runs back into the queue as slots of their keys were freed, oldest due first."""
    if writing.freed:
        freed = Counter(writing.freed)
        writing.freed.clear()
        waited_for = writing.read("waited_for", listed(freed))
        _unblock(writing, [(key, freed[key]) for key in waited_for])


def _unblock(writing: Writing, room: Iterable[tuple[str, int]]) -> None:
    for key, count in room:
        rows = writing.read("oldest_blocked", key, count)
        writing.run("unblock", writing.now, listed(run_id for run_id, _pool in rows))
        writing.ready.update(pool for _run_id, pool in rows)
