"""A pile: what many operations ask for, planned against one version of the registry, and each one's part of the answer.

    operations ──▶ PlannedPile ──▶ pile ──▶ (the store) ──▶ candidates? ──▶ decide ──▶ pile ──▶ (the store) ──▶ resolve ──▶ told

What events start is planned by `dispatch`; here it is laid beside what operations ask for outright, in the order in which the
store answers. A start that this process may execute at once is *fused*: leased in the very commit that makes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import structlog

from stepwell.clock import stopwatch
from stepwell.engine import dispatch
from stepwell.engine.events import Fact
from stepwell.engine.registry import KnownRegistry
from stepwell.errors import Unknown
from stepwell.store.records import Cancel, Claim, EventFate, EventRow, Pile, RunStatus, Start, Tick, TickOutcome, Turn
from stepwell.store.results import PileResult, StartResult, TurnResult


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one operation."""

    now: int
    turn: TurnResult | None
    events: tuple[EventFate, ...]
    starts: tuple[StartResult, ...]
    cancels: tuple[RunStatus | None, ...]
    tick: TickOutcome | None
    whole: PileResult


@dataclass(slots=True, eq=False)
class Op:
    """One operation on its way. `patient` ones outlast an absence of the store; others fail with StoreUnavailable.

    `tick_for` names the function of a tick's event. `starts` are guarded by this operation's own turn.
    """

    turn: Turn | None = None
    facts: tuple[Fact, ...] = ()
    starts: tuple[Start, ...] = ()
    cancels: tuple[Cancel, ...] = ()
    tick: Tick | None = None
    tick_for: str | None = None
    outbox_done: tuple[str, ...] = ()
    wakes: tuple[str, ...] = ()
    claim: Claim | None = None
    patient: bool = False
    ends: bool = False
    size: int = 200
    tell: Callable[[Done | Exception], None] = lambda _done: None
    """Called once with the answer, after the commit."""


@dataclass(slots=True)
class Hooks:
    """Whom the committer tells: of every commit, of a start this process may execute at once, and of expression errors."""

    after: Callable[[Pile, PileResult], None]
    fuse: Callable[[Start], bool]
    fused: Callable[[Start, StartResult | None, int], None]
    """Called for each start that `fuse` accepted, with None where the commit failed."""
    erred: Callable[[str, str], None]
    """Called with (function, kind) of an expression that gave no boolean or no value."""
    waits_erred: Callable[[Sequence[dispatch.WaitError]], None]
    """Called with the expressions of open waits that gave none."""
    tried: Callable[[str, float], None] = lambda _kind, _seconds: None
    """Called with (kind, seconds) of each expression that was asked."""
    runner_id: str = ""
    doubt: Callable[[], None] = lambda: None
    """Called where a commit that was to lease runs to this process broke: it may have landed all the same."""


def startable(ops: Sequence[Op], registry: KnownRegistry) -> Sequence[Op]:
    """These operations without those that ask for a run of a function which, meanwhile, starts none. They are told.

    A run that invokes is another matter: its turn is written, and the function's last revision takes the run.
    """
    gone = [
        op for op in ops if op.starts and op.turn is None and any(one.function_id not in registry.functions for one in op.starts)
    ]
    if not gone:
        return ops
    for op in gone:
        op.tell(Unknown(f"function {op.starts[0].function_id!r} was suspended or removed: it starts no run"))
    return [op for op in ops if op not in gone]


class PlannedPile:
    """One pile being made from operations, and the way back from its results to them."""

    def __init__(self, ops: Sequence[Op], registry: KnownRegistry, now: int, hooks: Hooks) -> None:
        self.ops = ops
        self.registry = registry
        self.hooks = hooks
        self.turns: list[Turn] = []
        self.ticks: list[Tick] = []
        self.facts: list[Fact] = []
        self.rows: list[EventRow] = []
        self.starts: list[Start] = []
        self.cancels: list[Cancel] = []
        self.outbox: list[str] = []
        self.wakes: list[str] = []
        self.claim: Claim | None = None
        self.consumes: tuple[dispatch.Consume, ...] = ()
        self.more_cancels: tuple[Cancel, ...] = ()
        self.more_decisions: Sequence[dispatch.Decision] = ()
        self.wait_errors: Sequence[dispatch.WaitError] = ()
        self.waits_tried: Sequence[tuple[str, float]] = ()
        self.ends = False
        ticks: dict[int, str] = {}
        for op in ops:
            self._add(op, ticks)
        self.plan = dispatch.plan(self.facts, registry, now, ticks, stopwatch) if self.facts else dispatch.Plan()
        self.fused: set[int] = set()
        self.starts.extend(self.plan.starts)
        if self.starts:
            self._fuse(now)

    def _add(self, op: Op, ticks: dict[int, str]) -> None:
        turn = -1
        if op.turn is not None:
            turn = len(self.turns)
            self.turns.append(op.turn)
            self.ends = self.ends or op.ends
        tick = -1
        if op.tick is not None:
            tick = len(self.ticks)
            self.ticks.append(op.tick if op.tick_for is None or op.tick_for in self.registry.functions else _missed(op.tick))
        for fact in op.facts:
            if op.tick_for is not None:
                ticks[len(self.facts)] = op.tick_for
            self.facts.append(fact)
            self.rows.append(fact.row if turn == tick == -1 else replace(fact.row, turn=turn, tick=tick))
        for start in op.starts:
            current = dispatch.as_registered(start, self.registry)
            self.starts.append(current if turn == -1 else replace(current, turn=turn))
        if op.cancels:
            self.cancels.extend(op.cancels)
            self.ends = True
        if op.outbox_done:
            self.outbox.extend(op.outbox_done)
        if op.wakes:
            self.wakes.extend(op.wakes)
        if op.claim is not None:
            self.claim = op.claim

    def _fuse(self, now: int) -> None:
        for place, start in enumerate(self.starts):
            if not start.concurrency and start.idempotency_key is None and start.due <= now and self.hooks.fuse(start):
                self.starts[place] = replace(start, lease_to=self.hooks.runner_id)
                self.fused.add(place)

    def pile(self, now: int | None, *, decided: bool) -> Pile:
        """What the store is to commit; once `decided` it is asked for no more candidates."""
        keys = () if decided or not self.facts else tuple(key for found in self.plan.keys for key in found)
        version = self.registry.version if self.facts or self.starts or self.ends else -1
        return Pile(
            registry_version=version,
            now=now,
            system_events=self.registry.hears_system_events if self.ends or self.ticks or self.facts else False,
            match_keys=keys,
            turns=tuple(self.turns),
            ticks=tuple(self.ticks),
            events=tuple(self.rows),
            starts=tuple(self.starts),
            decisions=(*self.plan.decisions, *self.more_decisions),
            consumes=self.consumes,
            cancels=(*self.cancels, *self.more_cancels),
            wakes=tuple(self.wakes),
            outbox_done=tuple(self.outbox),
            claim=self.claim,
        )

    def decide(self, result: PileResult) -> None:
        """Evaluate what is left of the candidates' expressions: which waits the events end, which runs they cancel."""
        decided = dispatch.decide(self.facts, self.plan.keys, result.candidates, result.now, stopwatch)
        self.consumes, self.more_cancels, self.wait_errors = tuple(decided.consumes), tuple(decided.cancels), decided.errors
        self.waits_tried, self.more_decisions = decided.tried, decided.decisions
        self.ends = self.ends or bool(decided.cancels)

    def unfuse(self) -> None:
        """Tell whoever was to execute starts at once that nothing came of them."""
        for place in self.fused:
            self.hooks.fused(self.starts[place], None, 0)
        self.fused.clear()

    def resolve(self, result: PileResult) -> None:
        """Hand each operation its part of the answer, then tell the hooks."""
        turns, ticks, events, starts, cancels = (
            iter(result.turns),
            iter(result.ticks),
            iter(result.events),
            iter(result.starts),
            iter(result.cancels),
        )
        for op in self.ops:
            done = Done(
                now=result.now,
                turn=next(turns) if op.turn is not None else None,
                tick=next(ticks) if op.tick is not None else None,
                events=tuple(islice(events, len(op.facts))) if op.facts else (),
                starts=tuple(islice(starts, len(op.starts))) if op.starts else (),
                cancels=tuple(islice(cancels, len(op.cancels))) if op.cancels else (),
                whole=result,
            )
            try:
                op.tell(done)
            except Exception:  # noqa: BLE001 - whatever a listener raises
                # It is written: a listener's fault must neither write it again nor keep the others from being told.
                structlog.get_logger("stepwell.engine").exception("whom a commit was told to broke")
        for place in self.fused:
            self.hooks.fused(self.starts[place], result.starts[place], result.now)
        for function_id, kind in self.plan.errors:
            self.hooks.erred(function_id, kind)
        if self.wait_errors:
            self.hooks.waits_erred(self.wait_errors)
        for kind, seconds in (*self.plan.tried, *self.waits_tried):
            self.hooks.tried(kind, seconds)
        self.hooks.after(self.seen(), result)

    def seen(self) -> Pile:
        """The pile as the hooks see it: what was started and ended."""
        return Pile(
            system_events=self.ends and self.registry.hears_system_events,
            starts=tuple(self.starts),
            turns=tuple(self.turns),
            cancels=(*self.cancels, *self.more_cancels),
        )


def _missed(tick: Tick) -> Tick:
    """The same instant of a function that starts nothing any more."""
    return replace(tick, outcome=TickOutcome.SKIPPED, reason="the function was suspended or removed", run_id=None)
