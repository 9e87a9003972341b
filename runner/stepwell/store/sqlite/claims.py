"""Claiming: the sweep, the concurrency limits, the claim itself, and the news of held runs. Runs on the writer thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.store.records import FOREVER, Claim, Claimed, Limit, News, Overdue, TriggerKind
from stepwell.store.statements import load

if TYPE_CHECKING:
    from stepwell.store.sqlite.pile import Writing

SQL = load("stepwell.store.sqlite", "claims.sql")
POISON = 5


def free_slots(writing: Writing) -> None:
    """Let as many blocked runs back into the queue as slots of their keys were freed, oldest due first."""
    if not writing.freed:
        return
    counts: dict[str, int] = {}
    for key in writing.freed:
        counts[key] = counts.get(key, 0) + 1
    for key, count in counts.items():
        _unblock(writing, key, count)
    writing.freed.clear()


def claim(writing: Writing, asked: Claim) -> dict[str, Any]:
    """Sweep if asked, claim what there is room for, and tell the news; the fields of a `PileResult`."""
    overdue: tuple[Overdue, ...] = ()
    outbox: tuple[str, ...] = ()
    if asked.sweep:
        _expire(writing)
        _lift_blocks(writing, {limit.function_id: limit for limit in asked.limits})
        overdue = tuple(Overdue(*row) for row in writing.cursor.execute(SQL["overdue"], (writing.now, POISON)))
        outbox = tuple(row[0] for row in writing.cursor.execute(SQL["outbox_waiting"]))
    claimed = _claim(writing, asked) if asked.room > 0 and _may_claim(writing, asked) else ()
    return {
        "claimed": claimed,
        "news": _news(writing, asked),
        "overdue": overdue,
        "outbox": outbox,
        "recovered": writing.recovered,
        "next_due": _next_due(writing, asked),
    }


def _may_claim(writing: Writing, asked: Claim) -> bool:
    row = writing.cursor.execute(SQL["runner"], (asked.runner_id,)).fetchone()
    return row is not None and row[0] > writing.now and not row[1]


def _claim(writing: Writing, asked: Claim) -> tuple[Claimed, ...]:
    limits = {limit.function_id: limit for limit in asked.limits}
    functions = frozenset(asked.functions)
    used: dict[str, int] = {}
    claimed: list[Claimed] = []
    for pool in asked.pools:
        passed = 0
        while len(claimed) < asked.room:
            want = asked.room - len(claimed)
            rows = writing.cursor.execute(SQL["claimable"], (pool, writing.now, POISON, want, passed)).fetchall()
            for row in rows:
                if row[1] not in functions:
                    passed += 1
                elif (full := _full(writing, row, limits.get(row[1]), used)) is not None:
                    writing.cursor.execute(SQL["block"], (full, row[0]))
                else:
                    claimed.append(_take(writing, asked, row))
            if len(rows) < want:
                break
    return tuple(claimed)


def _full(writing: Writing, row: tuple[Any, ...], limit: Limit | None, used: dict[str, int]) -> str | None:
    """The first concurrency key of this row that has no room; otherwise count the row under its keys."""
    if limit is None:
        return None
    keys = [
        (key, most, place)
        for key, most, place in ((row[2], limit.first, 1), (row[3], limit.second, 2))
        if key is not None and most > 0
    ]
    for key, most, place in keys:
        if key not in used:
            used[key] = writing.cursor.execute(SQL[f"count_key{place}"], (key,)).fetchone()[0]
        if used[key] >= most:
            return str(key)
    for key, _most, _place in keys:
        used[key] += 1
    return None


def _take(writing: Writing, asked: Claim, row: tuple[Any, ...]) -> Claimed:
    run_id, function_id, *_keys, due = row
    taken = writing.cursor.execute(SQL["take"], (asked.runner_id, writing.now, run_id)).fetchone()
    revision, epoch, inbox, attempt, attempt_steps, created, recovered = taken
    trigger, text = writing.cursor.execute(SQL["input"], (run_id,)).fetchone()
    return Claimed(
        run_id,
        function_id,
        revision,
        epoch,
        inbox,
        attempt,
        attempt_steps,
        due,
        created,
        TriggerKind(trigger),
        text,
        bool(recovered),
    )


def _news(writing: Writing, asked: Claim) -> tuple[News, ...]:
    news: list[News] = []
    for run_id, epoch, inbox in asked.watch:
        row = writing.cursor.execute(SQL["held_now"], (run_id,)).fetchone()
        if row is None or row[0] != epoch or row[1] != asked.runner_id:
            news.append(News(run_id, -1))
        elif row[2] > inbox:
            news.append(News(run_id, row[2]))
    return tuple(news)


def _next_due(writing: Writing, asked: Claim) -> int:
    found = [writing.cursor.execute(SQL["next_deadline"], (writing.now,)).fetchone()[0]]
    found += [writing.cursor.execute(SQL["next_due"], (pool, writing.now)).fetchone()[0] for pool in asked.pools]
    return min((one for one in found if one is not None), default=FOREVER)


# --- the sweep ---


def _expire(writing: Writing) -> None:
    """Free what expired leases hold; a run that made no step since its last recovery comes nearer to being parked."""
    gone = writing.cursor.execute(SQL["expired_runners"], (writing.now,)).fetchall()
    for (runner_id,) in gone:
        for run_id, key1, key2, pool in writing.cursor.execute(SQL["held_by"], (runner_id,)).fetchall():
            writing.cursor.execute(SQL["recover"], (run_id, writing.now))
            writing.freed += [key for key in (key1, key2) if key is not None]
            writing.ready.add(pool)
            writing.recovered += 1
        writing.cursor.execute(SQL["forget_runner"], (runner_id,))
    free_slots(writing)


def _lift_blocks(writing: Writing, limits: dict[str, Limit]) -> None:
    for key, place, function_id in writing.cursor.execute(SQL["blocked_keys"]).fetchall():
        limit = limits.get(function_id)
        if limit is None:
            continue
        most = limit.first if place == 1 else limit.second
        used = writing.cursor.execute(SQL[f"count_key{place}"], (key,)).fetchone()[0]
        if most == 0 or used < most:
            _unblock(writing, key, most - used if most else 1_000_000)


def _unblock(writing: Writing, key: str, count: int) -> None:
    for (pool,) in writing.cursor.execute(SQL["unblock"], (key, count)).fetchall():
        writing.ready.add(pool)
