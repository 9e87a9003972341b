"""The live figures: both dialects answer one question with one JSON document, which is read here. Pure."""

from collections import defaultdict
from typing import Any

import orjson

from stepwell.store.views import FunctionStats, Horizon, LimitStats, OverdueTimers, RunnerRow, Stats


def stats_of(text: str) -> Stats:
    """The figures in the answer of the statement `stats`, which says in its comment what is where."""
    told: dict[str, Any] = orjson.loads(text)
    now: int = told["now"]
    limits: defaultdict[str, list[LimitStats]] = defaultdict(list)
    for function_id, place, in_use, blocked, oldest in told["limits"] or ():
        limits[function_id].append(LimitStats(place, in_use, blocked, _age(now, oldest)))
    revisions: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for function_id, revision, due, later in told["revisions"] or ():
        revisions[function_id].append((revision, due, later))
    return Stats(
        now=now,
        functions=tuple(
            FunctionStats(
                one, queued, running, sleeping, waiting, _age(now, oldest), tuple(limits[one]), tuple(revisions[one]), *more
            )
            for one, queued, running, sleeping, waiting, oldest, *more in told["functions"] or ()
        ),
        runners=tuple(
            RunnerRow(one, tuple(pools), tuple(functions), slots, expires, bool(draining), tuple(map(tuple, broken)))
            for one, pools, functions, slots, expires, draining, broken in told["runners"] or ()
        ),
        overdue=tuple(OverdueTimers(one, (first, second), runs) for one, first, second, runs in told["overdue"] or ()),
        next_ticks=tuple((function_id, due) for function_id, due in told["next"] or ()),
        horizon=Horizon(*told["horizon"]) if told["horizon"] else None,
        dead_tuples=tuple((table, count) for table, count in told["dead"] or ()),
    )


def _age(now: int, since: int | None) -> int:
    return 0 if since is None else max(0, now - since)
