"""Piles out of intents: each finds what it is about among the rows that there are, as an engine would that has read them.

What an engine never does isn't done here either: a run parks no later than its first wait is due, a concurrency key and a fused
lease don't go together, a tick is accounted for in its order.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.build import SECOND, run_id
from model import registry
from model.intents import Act, Ask, Begin, Give, Intent, Sent, Stop, Tock, Wake, Work
from model.picture import Picture

from stepwell.engine.run import RunStatus
from stepwell.store.records import (
    FOREVER,
    AttemptRow,
    Cancel,
    Claim,
    Consume,
    Decision,
    End,
    EventRow,
    Park,
    Parked,
    Pile,
    Signal,
    Start,
    StepKind,
    StepRow,
    Tick,
    TickOutcome,
    TriggerKind,
    Turn,
    Wait,
)

RUNNERS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("A", ("p", "q"), registry.FUNCTIONS),
    ("B", ("p", "q"), registry.FUNCTIONS),
    ("C", ("p",), ("f", "g")),
    ("D", ("q", "p"), ("h", "k", "f")),
)
ERROR = b'{"name":"Error","message":"boom"}'
WAITING = (StepKind.SLEEP, StepKind.EVENT, StepKind.INVOKE, StepKind.SIGNAL)


@dataclass(slots=True)
class Scene:
    """Where an example has come to: its rows, its instant, which version of the registry holds, and the leases that ever were.

    `numbers` are those of the next runs; `era` is part of event ids, for an id means another event once it was forgotten.
    """

    rows: Picture
    now: int
    variant: int
    numbers: Iterator[int]
    leases: Sequence[tuple[str, int]]
    era: int


class Piling:
    """One pile being made at an instant, over the rows that there are."""

    def __init__(self, scene: Scene) -> None:
        self.rows = rows = scene.rows
        self.now = scene.now
        self.variant = scene.variant
        self._numbers = scene.numbers
        self._leases = scene.leases
        self._era = scene.era
        self.kinds: dict[str, list[Any]] = {
            kind: [] for kind in ("turns", "ticks", "events", "starts", "decisions", "consumes", "cancels", "wakes", "match_keys")
        }
        self.claim: Claim | None = None
        self._waits: dict[str, dict[tuple[StepKind, str], int]] = {}
        for row in rows["waits"]:
            self._waits.setdefault(row.run_id, {})[StepKind(row.kind), row.step_id] = row.due
        self._opened: set[tuple[str, str]] = set()
        self._recorded = {(row.run_id, row.step_id) for row in rows["steps"]}

    def add(self, intent: Intent) -> None:
        """Put what it wants on the pile; nothing, if there is nothing that it could be about."""
        match intent:
            case Sent():
                self._send(intent)
            case Begin():
                self._start(intent, TriggerKind.MANUAL)
            case Work():
                self._turn(intent)
            case Stop():
                self._cancel(intent)
            case Ask():
                self._claim(intent)
            case Tock():
                self._tick(intent)
            case Wake():
                self._wake(intent)
            case Give():
                self._give(intent)

    def pile(self, **more: Any) -> Pile:
        """What has been put on it."""
        kinds = {kind: tuple(dict.fromkeys(rows) if kind == "match_keys" else rows) for kind, rows in self.kinds.items()}
        return Pile(**{**kinds, "claim": self.claim, **more})

    # --- events, runs, ticks ---

    def _send(self, sent: Sent, **guard: int) -> int:
        place = len(self.kinds["events"])
        event_id, name = f"e{sent.id}.{self._era}", f"n{sent.name}"
        body = f'{{"id":"{event_id}","name":"{name}","data":{sent.body}}}'.encode()
        self.kinds["events"].append(EventRow(event_id, name, body, hashlib.sha256(body).digest(), self.now // 1000, **guard))
        if not guard:
            self.kinds["match_keys"].append(f"k{sent.name}")
        for one in sent.starts:
            self._start(one, TriggerKind.EVENT, event=place, event_ids=(event_id,), idle=True)
        if sent.decided:
            self.kinds["decisions"].append(Decision(place, "z", "idempotency", "told"))
        return place

    def _start(self, begin: Begin, trigger: TriggerKind, **more: Any) -> str:
        function = registry.FUNCTIONS[begin.function]
        keys = registry.keys(self.variant, function)
        fused = begin.fused and not keys and not begin.later and not begin.key
        made = run_id(next(self._numbers), self.now)
        more.pop("idle", None)
        start = Start(
            run_id=made,
            function_id=function,
            revision=f"r{self.variant}",
            pool=registry.POOLS[function],
            trigger=trigger,
            input=b'[{"id":"e"}]',
            event_ids=more.pop("event_ids", ()),
            created=self.now,
            due=self.now + begin.later * SECOND,
            concurrency=keys,
            idempotency_key=f"i{begin.key}" if begin.key else None,
            idempotency_until=self.now + begin.kept * SECOND if begin.key else 0,
            start_by=self.now + begin.start_by * SECOND if begin.start_by else None,
            finish_within=begin.finish_within * SECOND if begin.finish_within else None,
            cancel_on=(self._listener(begin.cancel_on),) if begin.cancel_on >= 0 else (),
            lease_to=RUNNERS[begin.function % 2][0] if fused else None,
            **more,
        )
        self.kinds["starts"].append(start)
        return made

    def _listener(self, name: int) -> Wait:
        return Wait(StepKind.CANCEL, "", 0, FOREVER, self.now, name=f"n{name}", match_key=f"k{name}", context=b"{}")

    def _tick(self, tock: Tock) -> None:
        name, overlap = registry.SCHEDULES[tock.schedule]
        schedule = next((row for row in self.rows["schedules"] if row.schedule_id == name and row.active), None)
        done = [row.due for row in self.rows["ticks"] if row.schedule_id == name]
        if schedule is None or (tock.again and not done):
            return
        taken = [one.due for one in self.kinds["ticks"] if one.schedule_id == name]
        due = (
            done[-1]
            if tock.again
            else max(schedule.last_due, schedule.next_due - 1, *taken, 0) // registry.EVERY * registry.EVERY
        )
        due += 0 if tock.again else registry.EVERY
        if due > self.now or due <= self.now - 86_400 * SECOND:
            if tock.again:
                return
            # Nobody looks further back than a day here: what lies before is passed over.
            due = self.now // registry.EVERY * registry.EVERY
            if due <= max(schedule.last_due, *taken, 0):
                return
        outcome = TickOutcome(tock.outcome)
        made = None
        place = len(self.kinds["ticks"])
        if outcome is TickOutcome.FIRED:
            event_id = f"{name}-{due}"
            event = len(self.kinds["events"])
            self.kinds["events"].append(EventRow(event_id, "cron", b"{}", b"c" * 32, due // 1000, tick=place))
            made = self._start(Begin(), TriggerKind.CRON, event=event, event_ids=(event_id,))
        self.kinds["ticks"].append(Tick(name, due, outcome, "on time", due + registry.EVERY, overlap, made))

    # --- what is done to runs ---

    def _cancel(self, stop: Stop) -> None:
        rows = self.rows["ends"] if stop.ended else self.rows["queue"]
        if rows:
            status = RunStatus.FAILED if stop.failed else RunStatus.CANCELLED
            chosen = rows[stop.which % len(rows)].run_id
            self.kinds["cancels"].append(Cancel(chosen, ERROR, status, only_unclaimed=stop.only_unclaimed))

    def _wake(self, wake: Wake) -> None:
        if self.rows["queue"]:
            self.kinds["wakes"].append(self.rows["queue"][wake.which % len(self.rows["queue"])].run_id)

    def _give(self, give: Give) -> None:
        """An event of the pile's own, or none, for any open wait."""
        waits = [row for row in self.rows["waits"] if row.kind == StepKind.EVENT]
        if waits:
            row = waits[give.which % len(waits)]
            value = f'{{"given":{give.body}}}'.encode()
            guard = len(self.kinds["events"]) - 1 if give.body else -1
            self.kinds["consumes"].append(Consume(guard, row.run_id, StepKind.EVENT, row.step_id, row.occurrence, value))

    def _claim(self, ask: Ask) -> None:
        runner, pools, names = RUNNERS[ask.runner]
        watch = tuple((run, epoch, 0) for run, epoch in self._leases[-6:]) if ask.watch else ()
        self.claim = Claim(runner, pools, names, ask.room, registry.limits(self.variant, names), watch, ask.sweep)

    # --- turns ---

    def _turn(self, work: Work) -> None:
        held = [(row.run_id, row.epoch) for row in self.rows["queue"] if row.runner_id is not None]
        choice = [lease for lease in self._leases if lease not in held] if work.stale else held
        if not choice:
            return
        run, epoch = choice[work.which % len(choice)]
        inbox = next((row.inbox for row in self.rows["queue"] if row.run_id == run), 0)
        doing = Doing(self, run, lands=not work.stale)
        for act in work.acts:
            doing.do(act)
        then = doing.then(work.then)
        self.kinds["turns"].append(
            Turn(
                run,
                epoch,
                tuple(doing.steps),
                tuple(doing.closes),
                tuple(doing.opens),
                tuple(doing.attempts),
                doing.signal,
                max(0, inbox - work.unseen),
                then,
            )
        )

    def waits_of(self, run: str) -> dict[tuple[StepKind, str], int]:
        """When a run's open waits are due, those of this pile included."""
        return self._waits.setdefault(run, {})


class Doing:
    """One turn being made."""

    def __init__(self, piling: Piling, run: str, *, lands: bool) -> None:
        self.piling = piling
        self.run = run
        self.now = piling.now
        self.place = len(piling.kinds["turns"])
        self.waits = piling.waits_of(run) if lands else dict(piling.waits_of(run))
        self.steps: list[StepRow] = []
        self.closes: list[tuple[str, int, StepKind]] = []
        self.opens: list[Wait] = []
        self.attempts: list[AttemptRow] = []
        self.signal: Signal | None = None
        self.named: set[str] = set()

    def do(self, act: Act) -> None:
        """Do one thing; a step is touched once in a turn."""
        match act.what:
            case "record" | "fail":
                self._record(f"s{act.a}", act.what == "record", str(act.b).encode())
            case "retry":
                self._retry(f"s{act.a}", act.b)
            case "sleep":
                self._open(f"z{act.a}", StepKind.SLEEP, self.now + (5 + 20 * act.b) * SECOND)
            case "event":
                due = FOREVER if act.b == 2 else self.now + 30 * SECOND
                self._open(
                    f"w{act.a}", StepKind.EVENT, due, name=f"n{act.b}", match_key=f"k{act.b}", residual="true", context=b"{}"
                )
            case "signal":
                self._open(
                    f"g{act.a}", StepKind.SIGNAL, self.now + 40 * SECOND, match_key=f"signal{act.b}", detail=b'{"signal":1}'
                )
            case "invoke":
                self._invoke(f"i{act.a}", act.begin)
            case "close":
                self._close(act.a)
            case "close it":
                self._end_wait(StepKind.EVENT, act.name)
            case "send":
                self._send(act)
            case "send signal":
                self._signal(f"x{act.a}", act.b)
            case "between":
                self.attempts.append(AttemptRow("", 0, act.a, self.now, self.now + act.b, ERROR, self.now + SECOND))

    def then(self, wanted: str) -> Park | End | None:
        """How the turn ends."""
        if any(kind is StepKind.SIGNAL and (self.run, step) in self.piling._opened for kind, step in self.waits):
            # One that is refused isn't waited for, so the answer comes first.
            return None
        waits = {key: due for key, due in self.waits.items() if key[0] is not StepKind.CANCEL}
        match wanted:
            case "complete":
                return End(RunStatus.COMPLETED, b'"done"')
            case "fail":
                return End(RunStatus.FAILED, ERROR)
            case "park" if waits:
                asleep = all(kind is StepKind.SLEEP for kind, _step in waits)
                return Park(min(waits.values()), Parked.SLEEPING if asleep else Parked.WAITING)
            case "retry" | "park":
                return Park(self.now + 10 * SECOND, Parked.QUEUED, 1, len(self.steps))
            case "drain":
                return Park(0, Parked.QUEUED)
            case _:
                return None

    def _touch(self, step: str) -> bool:
        if step in self.named:
            return False
        self.named.add(step)
        return True

    def _record(self, step: str, ok: bool, value: bytes) -> None:
        if not self._touch(step):
            return
        if self.waits.pop((StepKind.RUN, step), None) is not None:
            self.closes.append((step, 0, StepKind.RUN))
        self._step(step, StepKind.RUN, ok, value if ok else ERROR)

    def _step(self, step: str, kind: StepKind, ok: bool, value: bytes) -> None:
        self.steps.append(StepRow(step, 0, kind, ok, value, 1, self.now, self.now))

    def _retry(self, step: str, attempt: int) -> None:
        # An execution's writes follow one another, so one pile doesn't hold two tries of a step.
        known = (self.run, step) in self.piling._recorded or (self.run, step) in self.piling._opened
        if not known and self._touch(step):
            self.piling._opened.add((self.run, step))
            due = self.now + (attempt + 1) * 10 * SECOND
            self.attempts.append(AttemptRow(step, 0, attempt, self.now, self.now + 1, ERROR, due))
            self.opens.append(Wait(StepKind.RUN, step, 0, due, self.now, attempt, detail=ERROR))
            self.waits[StepKind.RUN, step] = due

    def _open(self, step: str, kind: StepKind, due: int, **more: Any) -> bool:
        known = (kind, step) in self.waits or (self.run, step) in self.piling._recorded
        if known or not self._touch(step):
            return False
        self.opens.append(Wait(kind, step, 0, due, self.now, **more))
        self.piling._opened.add((self.run, step))
        self.waits[kind, step] = due
        return True

    def _invoke(self, step: str, begin: Begin) -> None:
        if (StepKind.INVOKE, step) in self.waits or (self.run, step) in self.piling._recorded or step in self.named:
            return
        child = self.piling._start(begin, TriggerKind.INVOKE, turn=self.place)
        self._open(step, StepKind.INVOKE, self.now + 60 * SECOND, target_run=child)

    def _close(self, a: int) -> None:
        """End a wait by its time: one that is open, or one that has been taken meanwhile."""
        mine = sorted(key for key in self.waits if key[0] in WAITING)
        self._end_wait(*(mine[a % len(mine)] if mine else (StepKind.EVENT, f"w{a}")))

    def _end_wait(self, kind: StepKind, step: str) -> None:
        # In a pile closes come before opens, so what is opened in it isn't ended by its time in it.
        if (self.run, step) not in self.piling._opened and self._touch(step):
            self.waits.pop((kind, step), None)
            self.closes.append((step, 0, kind))
            self._step(step, kind, kind is not StepKind.INVOKE, b"null" if kind is not StepKind.INVOKE else ERROR)

    def _send(self, act: Act) -> None:
        if self._touch(f"y{act.a}"):
            begins = (act.begin,) if act.b else ()
            self.piling._send(Sent(100 + act.a, act.b, 0, begins), turn=self.place)
            self._step(f"y{act.a}", StepKind.SEND_EVENT, True, b'{"ids":[]}')

    def _signal(self, step: str, which: int) -> None:
        if self.signal is None and self._touch(step):
            self.signal = Signal(f"signal{which}", f'{{"sent":{which}}}'.encode())
            self._step(step, StepKind.SEND_SIGNAL, True, b"false")
