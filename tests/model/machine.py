"""The machine: one example is thirty operations on one well in both stores, whatever hypothesis thinks of."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

from conformance.build import DAY, SECOND
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model import intents, registry
from model.intents import Act, Ask, Begin, Give, Intent, Sent, Stop, Tock, Wake, Work
from model.pair import Pair
from model.picture import Picture
from model.piling import ERROR, RUNNERS, Piling, Scene
from model.promises import Promises

from stepwell.engine.run import RunStatus
from stepwell.store.records import Cancel, Consume, Pile, StepKind
from stepwell.store.results import Journal, PileResult
from stepwell.store.views import RunFilter, RunnerRow

LONG, SHORT = 3600, 5
"""Leases, in seconds."""
EXAMPLE = count()
"""Numbers examples: some verbs are read at the end of every fifth only, for the time that they take."""


class Wells(RuleBasedStateMachine):
    """Whatever is committed, in whatever order, both stores answer alike, hold the same rows, and break no invariant."""

    pair: ClassVar[Pair]

    def __init__(self) -> None:
        super().__init__()
        self.pair.empty()
        self.numbers = count(1)
        self.variant = 0
        self.era = 0
        self.retained = 0
        self.leases: list[tuple[str, int]] = []
        self.sent: list[Pile] = []
        self.overdue: list[tuple[str, str]] = []
        self.outbox: tuple[str, ...] = ()
        self.rows: Picture = {}
        self.promises = Promises()
        self.settled = self.fresh = False

    @initialize(begins=st.lists(intents.BEGINS, min_size=2, max_size=6))
    def begin(self, begins: Sequence[Begin]) -> None:
        """A well with functions, two runners and some runs."""
        self._register(0)
        for runner in (0, 1):
            self._enrol(runner, LONG, draining=False)
        self.rows = self.pair.look()
        self._commit(begins)
        self._commit([Ask(0, 10)])

    @invariant()
    def same_and_sound(self) -> None:
        """Both stores have the same rows, and each one's doctor finds nothing; what was promised is kept."""
        if not self.fresh:
            self._look()
        self.fresh, self.settled = False, True

    def teardown(self) -> None:
        """The verbs for people say the same, too."""
        if self.settled:
            self._read()
            if next(EXAMPLE) % 5 == 0:
                self._read_all()

    # --- piles ---

    @rule(sents=st.lists(intents.SENTS, min_size=1, max_size=3))
    def send(self, sents: Sequence[Sent]) -> None:
        """Events: new ones, ones sent again, and ones whose id says something else by now."""
        self._commit(sents)

    @rule(begins=st.lists(intents.BEGINS, min_size=1, max_size=3))
    def start(self, begins: Sequence[Begin]) -> None:
        """Runs, with and without idempotency keys, some of them leased at once."""
        self._commit(begins)

    @rule(ask=intents.ASKS)
    def claim(self, ask: Ask) -> None:
        """A claim, with or without a sweep and news."""
        self._commit([ask])

    @rule(work=intents.WORKS)
    def turn(self, work: Work) -> None:
        """What an execution commits for its run."""
        self._somebody_runs()
        self._commit([work])

    @rule(work=intents.WAITING)
    def wait(self, work: Work) -> None:
        """A run begins to wait for something, and parks or goes on."""
        self._somebody_runs()
        self._commit([work])

    @rule(works=st.lists(intents.WORKS | intents.WAITING, min_size=2, max_size=3))
    def turns(self, works: Sequence[Work]) -> None:
        """Several turns at once."""
        self._somebody_runs()
        self._commit(works)

    @precondition(lambda self: any(row.kind != StepKind.CANCEL for row in self.rows["waits"]))
    @rule(which=intents.PLACES, body=intents.SMALL)
    def answer(self, which: int, body: int) -> None:
        """What an open wait is for comes: its event, its signal, the end of the invoked run, or the time."""
        waits = [row for row in self.rows["waits"] if row.kind != StepKind.CANCEL]
        row = waits[which % len(waits)]
        if row.kind == StepKind.EVENT:
            self._commit([Sent(200 + next(self.numbers), int(row.match_key[1:]), body)])
        elif row.kind == StepKind.SIGNAL:
            self._somebody_runs()
            self._commit([Work(which, (Act("send signal", body, int(row.match_key[-1])),))])
        elif row.kind == StepKind.INVOKE:
            self._finish(row.target_run, ("complete", "fail", "cancel")[body])
        else:
            self.pair.now = max(self.pair.now, row.due)
            self._enrol(0, LONG, draining=False)
            self._commit([Ask(0, 10, sweep=True)])

    @precondition(lambda self: any(row.kind == StepKind.EVENT for row in self.rows["waits"]))
    @rule(which=intents.PLACES, first=st.sampled_from(("event", "turn", "both")), parks=st.booleans())
    def race(self, which: int, first: str, parks: bool) -> None:
        """An event and a turn meet at one wait: its timeout, and exactly one of them counts; or a park that hasn't seen the event."""
        waits = [row for row in self.rows["waits"] if row.kind == StepKind.EVENT]
        row = waits[which % len(waits)]
        if row.run_id not in self._holding():
            self._enrol(0, LONG, draining=False)
            place = [one.run_id for one in self.rows["queue"]].index(row.run_id)
            self._commit([Wake(place), Ask(0, 10, sweep=True)])
        if row.run_id in self._holding() and row in self.rows["waits"]:
            held = self._holding().index(row.run_id)
            turn = Work(held, then="park", unseen=1) if parks else Work(held, (Act("close it", name=row.step_id),))
            give = Give(which, 0)
            if first == "both":
                self._commit([give, turn])
            else:
                self._commit([give if first == "event" else turn])
                self._commit([turn if first == "event" else give])

    @precondition(lambda self: self.leases)
    @rule(work=intents.STALE_WORKS)
    def stale_turn(self, work: Work) -> None:
        """What an execution commits whose lease is somebody else's by now."""
        self._commit([work])

    @rule(mixed=intents.MIXED, ask=st.none() | intents.ASKS)
    def together(self, mixed: Sequence[Intent], ask: Ask | None) -> None:
        """Several kinds in one pile."""
        self._commit([*mixed, ask] if ask is not None else mixed)

    @rule(stops=st.lists(intents.STOPS, min_size=1, max_size=2, unique=True))
    def cancel(self, stops: Sequence[Stop]) -> None:
        """Cancels of what lives, what never ran, what has ended."""
        self._commit(stops)

    @rule(work=intents.WORKS)
    def cancelled_turn(self, work: Work) -> None:
        """A cancel and a turn of the same run, in one pile: the run records nothing more."""
        self._somebody_runs()
        piling = self._piling([work])
        cancels = tuple(Cancel(one.run_id, ERROR) for one in piling.kinds["turns"])
        self._write(piling.pile(match_keys=(), cancels=cancels, system_events=True))

    @rule(tocks=st.lists(intents.TOCKS, min_size=1, max_size=2))
    def tick(self, tocks: Sequence[Tock]) -> None:
        """Due instants of schedules, a minute on."""
        self.pair.now += registry.EVERY
        self._commit(tocks)

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(1, 3))
    def resend(self, back: int) -> None:
        """A pile whose answer was lost, or that comes once more, late."""
        self._write(replace(self.sent[-min(back, len(self.sent))], registry_version=-1))

    @precondition(lambda self: self.overdue or self.outbox)
    @rule()
    def act_on_sweep(self) -> None:
        """What a runner does about the overdue, and about ends whose events are to be sent."""
        cancels = tuple(
            Cancel(run, ERROR, RunStatus.FAILED if why == "poison" else RunStatus.CANCELLED, only_unclaimed=why == "start")
            for run, why in self.overdue
        )
        outbox, self.overdue, self.outbox = self.outbox, [], ()
        self._write(Pile(cancels=cancels, outbox_done=outbox, system_events=True))

    # --- leases, time, registry, upkeep ---

    @rule(seconds=st.sampled_from((1, 6, 11, 31, 61)))
    def later(self, seconds: int) -> None:
        """Time passes: waits are due, deadlines are over, short leases expire."""
        self.pair.now += seconds * SECOND

    @rule(
        runner=st.integers(0, 3),
        what=st.sampled_from(("enrol", "enrol", "short", "drain", "beat", "leave", "hand back", "old epoch")),
    )
    def runners(self, runner: int, what: str) -> None:
        """A runner comes, renews its lease, drains, goes with what it holds, or gives back what it doesn't know of."""
        name, now = RUNNERS[runner][0], self.pair.now
        if what in {"enrol", "short", "drain"}:
            self._enrol(runner, SHORT if what == "short" else LONG, draining=what == "drain")
        elif what == "beat":
            one, other = (store.beat(name, LONG * SECOND, now) for store in (self.pair.sqlite, self.pair.postgres))
            assert one == other
        elif what == "leave":
            self.pair.both(lambda store: store.leave(name, now))
        else:
            held = self.pair.both(lambda store: store.held(name))
            runs = [(run, epoch - (what == "old epoch")) for run, epoch in held[:2]]
            self.pair.both(lambda store: store.hand_back(name, runs, now))

    @rule(times=st.sampled_from((1, 1, 2, 5)))
    def crash(self, times: int) -> None:
        """A whole process dies, and what it held is claimed by the next, which dies as well."""
        for _ in range(times):
            self.pair.both(lambda store: store.expire_all())
            self._enrol(1, LONG, draining=False)
            self._commit([Ask(1, 10, sweep=True)])

    @rule(variant=st.integers(0, 3), name=intents.SMALL, sents=st.lists(intents.SENTS, min_size=1, max_size=1))
    def deploy(self, variant: int, name: int, sents: Sequence[Sent]) -> None:
        """Limits come and go, and a schedule; waits listen on something new; a pile decided under another version doesn't land.

        A limit comes only where its key has no more leases than that.
        """
        pile = self._piling(sents).pile()
        held = Counter(key for row in self._held() for key in (row.key1, row.key2))
        if all(held[key] <= limit for key, limit in registry.limit_of(variant).items()):
            self._register(variant)
        version = self.pair.both(lambda store: store.listen([(f"n{name}", "data.a"), ("n9", "")]))
        self._look()
        before = self.rows
        assert self.pair.commit(replace(pile, registry_version=version + 1)).stale
        self._look()
        assert self.rows == before

    @precondition(lambda self: self.rows["ends"] and self.retained < 2)
    @rule(long=st.sampled_from((False, False, True)))
    def retain(self, long: bool) -> None:
        """Retention, when all that has ended is old enough: in one store history goes by the run's age, in the other by its end's."""
        self.retained += 1
        self.pair.now += 40 * DAY if long else SECOND
        keep = 10 * DAY if long else 0
        for store in (self.pair.sqlite, self.pair.postgres):
            self.pair.loop.run_until_complete(store.retain(keep, self.pair.now))
        self.pair.horizon = self.pair.now - keep
        if long:
            # What was sent before the retention isn't sent again: its ids are forgotten, its runs may live.
            self.era += 1
            self.sent.clear()
        self.promises.forget()

    # --- how ---

    def _held(self) -> list[Any]:
        return [row for row in self.rows["queue"] if row.runner_id is not None]

    def _holding(self) -> list[str]:
        return [row.run_id for row in self._held()]

    def _somebody_runs(self) -> None:
        """If nobody holds anything, claim what is due; if that is nothing, a new run."""
        if not self._held():
            self._enrol(0, LONG, draining=False)
            self._commit([Ask(0, 10, sweep=True)])
        if not self._held():
            self._commit([Begin(), Ask(0, 10)])

    def _finish(self, run: str, how: str) -> None:
        """End a run: by its own turn if somebody holds it, else by a cancel."""
        held = self._holding()
        if run in held and how != "cancel":
            self._commit([Work(held.index(run), then=how)])
        else:
            self._write(Pile(cancels=(Cancel(run, ERROR),), system_events=True))

    def _look(self) -> None:
        self.rows = self.pair.look()
        self.promises.check(self.rows, self.pair.now, registry.limit_of(self.variant))

    def _piling(self, wanted: Sequence[Intent]) -> Piling:
        self.settled = False
        piling = Piling(Scene(self.rows, self.pair.now, self.variant, self.numbers, self.leases, self.era))
        for one in wanted:
            piling.add(one)
        return piling

    def _commit(self, wanted: Sequence[Intent]) -> None:
        """Commit what is wanted; where waits may match its events, once more with what becomes of these."""
        piling = self._piling(wanted)
        version = self.rows["registry"][0].version
        pile = piling.pile(system_events=len(self.sent) % 2 == 0, registry_version=version)
        result = self.pair.commit(pile)
        if result.candidates:
            names = [f"k{event.name[1:]}" for event in pile.events]
            for one in result.candidates:
                event = names.index(one.wait.match_key or "")
                if one.wait.kind is StepKind.CANCEL:
                    piling.kinds["cancels"].append(Cancel(one.run_id, ERROR, event=event))
                else:
                    value = pile.events[event].data
                    piling.kinds["consumes"].append(
                        Consume(event, one.run_id, one.wait.kind, one.wait.step_id, one.wait.occurrence, value)
                    )
            pile = replace(piling.pile(match_keys=()), system_events=pile.system_events, registry_version=version)
            result = self.pair.commit(pile)
        self._after(pile, result)

    def _write(self, pile: Pile) -> None:
        self.settled = False
        self._after(pile, self.pair.commit(pile))

    def _after(self, pile: Pile, result: PileResult) -> None:
        if result.candidates or result.stale:
            return
        self.sent.append(pile)
        self.leases += [(one.run_id, one.epoch) for one in result.claimed]
        fused = [start.run_id for start, told in zip(pile.starts, result.starts, strict=True) if start.lease_to and told.landed]
        self.leases += [(run, 1) for run in fused if (run, 1) not in self.leases]
        if pile.claim is not None and pile.claim.sweep:
            self.overdue = [(one.run_id, one.reason) for one in result.overdue]
            self.outbox = result.outbox
        before = self.rows
        self._look()
        self.fresh = True
        self.promises.judge(pile, result, before, self.rows)

    def _enrol(self, runner: int, lease: int, *, draining: bool) -> None:
        name, pools, names = RUNNERS[runner]
        self.pair.both(lambda store: store.enrol(RunnerRow(name, pools, names, 10, lease * SECOND, draining)))

    def _register(self, variant: int) -> None:
        rows = registry.functions(variant), registry.schedules(variant, self.pair.now)
        self.pair.both(lambda store: store.register("o", *rows))
        self.variant = variant

    def _read(self) -> None:
        """What goes with resuming, and what people look at first."""
        both = self.pair.both
        both(lambda store: store.registry())
        both(lambda store: store.registry_version())
        runs = both(lambda store: store.runs(RunFilter(limit=1000)))
        both(
            lambda store: store.journals([row.run_id for row in runs]),
            lambda found: [_unordered(found[run]) for run in sorted(found)],
        )
        for row in runs[-2:]:
            both(lambda store, one=row.run_id: store.run(one))
            both(lambda store, one=row.run_id: store.steps(one), lambda found: sorted(found, key=repr))
            both(lambda store, one=row.run_id: store.attempts_between(one))
        both(lambda store: store.stats(self.pair.now), lambda stats: (stats.functions, stats.runners, stats.overdue))

    def _read_all(self) -> None:
        """All the other reading verbs."""
        both = self.pair.both
        for status in RunStatus:
            both(lambda store, one=status: store.runs(RunFilter(status=one)))
        for function in registry.FUNCTIONS:
            both(lambda store, one=function: store.runs(RunFilter(function_id=one)))
        for name, _overlap in registry.SCHEDULES:
            both(lambda store, one=name: store.ledger(one, 100))
        for key in registry.limit_of(0):
            both(lambda store, one=key: store.key_holders(one))
        for runner, *_rest in RUNNERS:
            both(lambda store, one=runner: store.held(one))
        both(
            lambda store: store.events(None, None, 100), lambda found: [row for row in found if row.received >= self.pair.horizon]
        )
        both(lambda store: store.decisions("e0.0"))
        both(lambda store: store.runs(RunFilter(event_id="e0.0")))
        if not self.pair.horizon:
            both(lambda store: store.event("e0.0"))
        assert both(lambda store: store.doctor(self.pair.now)) == []


def _unordered(journal: Journal) -> Journal:
    return replace(journal, steps=tuple(sorted(journal.steps, key=repr)))
