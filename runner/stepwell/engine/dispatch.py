"""From accepted events to the runs they start, the waits they end and the runs they cancel. Pure.

The committer calls `plan` with one whole version of the registry; the store checks that version in the same transaction,
so that every event is matched against exactly one version and none falls between two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from stepwell import ids as identity
from stepwell import values
from stepwell.engine import flow_control
from stepwell.engine.events import CANCELLED, FAILED, FINISHED, Fact
from stepwell.engine.expression import MISSING, Activation, compile_expression, match_key, split_equality, value_at
from stepwell.engine.registry import Known, KnownRegistry
from stepwell.spec.duration import microseconds
from stepwell.spec.function import CancelOn
from stepwell.store.records import CANCELLED_RUN, ENDED_WAIT, Cancel, Consume, Decision, Start, StepKind, TriggerKind, Wait
from stepwell.store.results import Candidate

YEAR = 365 * 86_400_000_000
ENDINGS = frozenset({FAILED, FINISHED, CANCELLED})
"""Runs that these start tell nobody of their own end, so that no loop comes about."""


@dataclass(slots=True)
class Plan:
    """What a pile's events bring about. `errors` are (function, kind) of expressions that gave no boolean or no value."""

    starts: list[Start] = field(default_factory=list[Start])
    decisions: list[Decision] = field(default_factory=list[Decision])
    keys: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """For each event, the digests under which open waits may be found."""
    errors: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    watch: Callable[[], float] | None = None
    """A stopwatch, in seconds; None: nothing is timed."""
    tried: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """(kind, seconds) of what expressions took on one event."""


@dataclass(frozen=True, slots=True)
class WaitError:
    """An open wait or cancel listener whose expression gave no boolean for an event: no match. `kind` is wait or cancel."""

    run_id: str
    kind: str
    reason: str


@dataclass(slots=True)
class Decided:
    """Which waits a pile's events end, which runs they cancel, and where an expression erred."""

    consumes: list[Consume] = field(default_factory=list[Consume])
    cancels: list[Cancel] = field(default_factory=list[Cancel])
    decisions: list[Decision] = field(default_factory=list[Decision])
    """That they do."""
    errors: list[WaitError] = field(default_factory=list[WaitError])
    watch: Callable[[], float] | None = None
    tried: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """As in `Plan`."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What starts a run: the kind of trigger, now, when it may begin, and the guard that it depends on."""

    trigger: TriggerKind
    now: int
    due: int
    event: int = -1
    turn: int = -1


def plan(
    facts: Sequence[Fact], registry: KnownRegistry, now: int, ticks: Mapping[int, str], watch: Callable[[], float] | None = None
) -> Plan:
    """Match every event with every function. `ticks` gives, by place, the function that a cron tick's event is for."""
    made = Plan(watch=watch)
    for place, fact in enumerate(facts):
        made.keys.append(tuple(match_key(fact.row.name, path, value) for path, value in _values(fact, registry)))
        if place in ticks:
            _start_tick(fact, place, registry.functions.get(ticks[place]), now, made)
        else:
            _match(fact, place, registry, now, made)
    return made


def start(known: Known, facts: Sequence[Fact], run_id: str, occasion: Occasion, made: Plan) -> Start:
    """One run of a function for these events, admitted by the flow-control rules; what they note goes into `made`."""
    activation = Activation(facts[0].document)
    began = _begin(made)
    admission = flow_control.admit(known.spec, activation, occasion.now)
    if admission.idempotency_key is not None or known.spec.concurrency:
        _done(made, "key", began)
    for rule, reason in admission.notes:
        made.errors.append((known.row.function_id, "key"))
        if occasion.event >= 0:
            made.decisions.append(Decision(occasion.event, known.row.function_id, f"{rule} key has no value", reason))
    timeouts = known.spec.timeouts
    return Start(
        run_id=run_id,
        function_id=known.row.function_id,
        revision=known.row.revision,
        pool=known.row.pool,
        trigger=occasion.trigger,
        input=b"[" + b",".join(fact.row.data for fact in facts) + b"]",
        event_ids=tuple(fact.row.id for fact in facts),
        created=occasion.now,
        due=occasion.due,
        event=occasion.event,
        turn=occasion.turn,
        concurrency=admission.concurrency,
        idempotency_key=admission.idempotency_key,
        idempotency_until=admission.idempotency_until,
        start_by=max(occasion.due, occasion.now) + microseconds(timeouts.start) if timeouts.start is not None else None,
        finish_within=microseconds(timeouts.finish) if timeouts.finish is not None else None,
        cancel_on=tuple(_listener(rule, place, facts[0], occasion.now) for place, rule in enumerate(known.spec.cancel_on)),
    )


def as_registered(made: Start, registry: KnownRegistry) -> Start:
    """The same start on the revision that its function has now, where it was made from an older version of the registry."""
    known = registry.known(made.function_id)
    if known is None or (made.revision, made.pool) == (known.row.revision, known.row.pool):
        return made
    return replace(made, revision=known.row.revision, pool=known.row.pool)


def as_rerun(first: Start, run_id: str) -> Start:
    """The same start as a new run that is linked to an old one; a rerun is wanted, so idempotency doesn't stop it."""
    return replace(first, rerun_of=run_id, idempotency_key=None)


def decide(
    facts: Sequence[Fact],
    keys: Sequence[tuple[str, ...]],
    candidates: Sequence[Candidate],
    now: int,
    watch: Callable[[], float] | None = None,
) -> Decided:
    """Which open waits and cancel listeners that share a key with an event really match; for a wait the first event wins.

    `now` is the store's: what an event says of its own time ends no listener and prolongs none.
    """
    by_key: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_key.setdefault(candidate.wait.match_key or "", []).append(candidate)
    decided = Decided(watch=watch)
    for place, fact in enumerate(facts):
        for key in keys[place]:
            for candidate in by_key.get(key, ()):
                if candidate.wait.kind is not StepKind.CANCEL or candidate.wait.due > now:
                    _test(candidate, place, fact, decided)
    return decided


def open_wait_key(text: str | None, name: str, trigger_event: dict[str, Any]) -> tuple[str, str | None, str | None]:
    """How to find a wait for `name` with this expression: (path to listen on, its key or None if none can match, residual)."""
    if text is None:
        return "", match_key(name, "", None), None
    split = split_equality(text)
    if split.key is None:
        return "", match_key(name, "", None), split.residual
    value = split.key.literal if split.key.event_path is None else value_at(trigger_event, split.key.event_path)
    if value is MISSING:
        return split.key.async_path, None, split.residual
    return split.key.async_path, match_key(name, split.key.async_path, value), split.residual


def listened(spec_waits: Sequence[CancelOn]) -> list[tuple[str, str]]:
    """The (name, path) pairs that a function's cancel listeners need; registered with the function."""
    pairs: list[tuple[str, str]] = []
    for rule in spec_waits:
        split = split_equality(rule.if_) if rule.if_ is not None else None
        pairs.append((rule.event, split.key.async_path if split is not None and split.key is not None else ""))
    return pairs


def _match(fact: Fact, place: int, registry: KnownRegistry, now: int, made: Plan) -> None:
    candidates = registry.index.candidates(fact.row.name)
    if not candidates:
        return
    activation = Activation(fact.document)
    due = max(now, fact.row.ts * 1000)
    for function_id, triggers in candidates:
        began = _begin(made)
        outcome = registry.index.match(triggers, activation)
        if any(trigger.if_ is not None for trigger in triggers):
            _done(made, "trigger", began)
        for error in outcome.errors:
            made.errors.append((function_id, "trigger"))
            made.decisions.append(Decision(place, function_id, "expression error", error))
        if outcome.matched:
            run_id = identity.run_id(function_id, fact.row.id, now // 1000)
            occasion = Occasion(TriggerKind.EVENT, now, due, event=place)
            made.starts.append(start(registry.functions[function_id], (fact,), run_id, occasion, made))


def _start_tick(fact: Fact, place: int, known: Known | None, now: int, made: Plan) -> None:
    if known is not None:
        run_id = identity.run_id(known.row.function_id, fact.row.id, fact.row.ts)
        made.starts.append(start(known, (fact,), run_id, Occasion(TriggerKind.CRON, now, now, event=place), made))


def _values(fact: Fact, registry: KnownRegistry) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for path in registry.paths.get(fact.row.name, ()):
        value = value_at(fact.document, path) if path else None
        if value is not MISSING:
            found.append((path, value))
    return found


def _listener(rule: CancelOn, place: int, fact: Fact, now: int) -> Wait:
    _path, key, residual = open_wait_key(rule.if_, rule.event, fact.document)
    return Wait(
        kind=StepKind.CANCEL,
        step_id="",
        occurrence=place,
        due=now + (microseconds(rule.timeout) if rule.timeout is not None else YEAR),
        opened=now,
        name=rule.event,
        match_key=key,
        residual=residual,
        context=fact.row.data if residual is not None else None,
    )


def _begin(made: Plan | Decided) -> float:
    return made.watch() if made.watch is not None else 0.0


def _done(made: Plan | Decided, kind: str, began: float) -> None:
    if made.watch is not None:
        made.tried.append((kind, made.watch() - began))


def _test(candidate: Candidate, place: int, fact: Fact, decided: Decided) -> None:
    wait = candidate.wait
    if wait.residual is not None:
        event = cast("dict[str, Any]", orjson.loads(wait.context)) if wait.context is not None else {}
        kind = "cancel" if wait.kind is StepKind.CANCEL else "wait"
        began = _begin(decided)
        verdict = compile_expression(wait.residual).test(Activation(event, fact.document))
        _done(decided, kind, began)
        if verdict.error is not None:
            decided.errors.append(WaitError(candidate.run_id, kind, f"{wait.residual}: {verdict.error}"))
        if not verdict.matched:
            return
    if wait.kind is not StepKind.CANCEL:
        decided.consumes.append(Consume(place, candidate.run_id, wait.kind, wait.step_id, wait.occurrence, fact.row.data))
        decided.decisions.append(Decision(place, "", ENDED_WAIT, f"{candidate.run_id} {wait.step_id}"))
    else:
        error = {"name": "CancelledByEvent", "message": f"event {fact.row.name!r} ({fact.row.id}) cancelled it"}
        decided.cancels.append(Cancel(candidate.run_id, values.canonical(error), event=place))
        decided.decisions.append(Decision(place, "", CANCELLED_RUN, candidate.run_id))
