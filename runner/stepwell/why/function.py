"""Why a function starts nothing, or nothing of it moves: one sentence, and what happens next. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from stepwell.why.answer import Paused, Runners
from stepwell.why.words import brief, clock_time, pause_sentence, span

CLUSTER = "dfn/"
"""How the owner of a function begins that a DurableFunction stands behind."""


class FunctionState(StrEnum):
    """The closed set of what a function as a whole can be in; on the wire as they stand here."""

    READY = "ready"
    WORKING = "working"
    INACTIVE = "inactive"
    PAUSED = "paused"
    NO_RUNNER = "no_runner"
    LIMIT = "limit"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class FunctionWhy:
    """The answer for a function. `since` is None where nothing waits, `until` where nothing ends it by itself."""

    kind: FunctionState
    sentence: str
    since: int | None
    until: int | None
    next: str


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """What is known of a function: its row, its live runs by what they do, and the runners of its pool. Ages are in µs."""

    function_id: str
    pool: str
    owner: str
    active: bool
    runners: Runners
    due: int = 0
    due_age: int = 0
    blocked: int = 0
    blocked_age: int = 0
    running: int = 0
    resting: int = 0
    limits: tuple[int, ...] = ()
    next_tick: int | None = None
    paused: Paused | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence and what happens next."""

    sentence: str
    next: str


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of a pool, as the cluster tells of them: `reason` is the kubelet's or the scheduler's own word.

    `coming`: they are those of a new revision, and the one before serves until they are ready.
    """

    ready: int
    wanted: int
    reason: str = ""
    message: str = ""
    coming: bool = False


def function_why(facts: FunctionFacts, now: int) -> FunctionWhy:
    """Say what holds a function back, the first that holds; or that nothing does."""
    if not facts.active:
        return _inactive(facts)
    if facts.paused is not None:
        return FunctionWhy(
            FunctionState.PAUSED,
            pause_sentence(facts.paused, now),
            facts.paused.since,
            None,
            "new runs start when somebody resumes it",
        )
    oldest_due = now - facts.due_age if facts.due else None
    if not facts.runners.taking:
        found = no_runner(facts.function_id, facts.pool, facts.runners, facts.owner)
        waiting = f"; {_runs(facts.due)} due, the oldest for {span(facts.due_age)}" if facts.due else "; no run is due"
        return FunctionWhy(FunctionState.NO_RUNNER, f"{found.sentence}{waiting}", oldest_due, facts.next_tick, found.next)
    if facts.blocked:
        limit = " and ".join(str(one) for one in facts.limits) or "?"
        sentence = (
            f"{_runs(facts.blocked)} blocked by the concurrency limit of {limit}, the oldest for {span(facts.blocked_age)}; "
            f"{facts.running} running"
        )
        return FunctionWhy(
            FunctionState.LIMIT, sentence, now - facts.blocked_age, None, "each starts when one that runs ends or waits"
        )
    if facts.due and facts.runners.busy >= facts.runners.slots:
        used = f"{facts.runners.busy}/{facts.runners.slots} slots in use"
        sentence = f"{_runs(facts.due)} due, the oldest for {span(facts.due_age)}: {used}"
        return FunctionWhy(
            FunctionState.BUSY, sentence, oldest_due, None, f"more runners, or slots, of pool {facts.pool!r} make it faster"
        )
    return _well(facts, now, oldest_due)


def no_runner(function_id: str, pool: str, runners: Runners, owner: str = "") -> Finding:
    """Why none of a pool's runners takes a function's runs."""
    mend = _cluster_hint(owner)
    if not runners.alive:
        return Finding(
            f"no runner: none is alive for pool {pool!r} and function {function_id!r}",
            f"it starts as soon as a runner of pool {pool!r} that has this function is up{mend}",
        )
    if not runners.knowing and runners.broken:
        return Finding(
            f"no runner: pool {pool!r} can't load function {function_id!r}: {brief(runners.broken)}",
            "mend the code there, or roll the function back",
        )
    if not runners.knowing:
        return Finding(
            f"no runner: {_count(runners.alive)} of pool {pool!r} alive, but none has function {function_id!r}",
            f"it starts as soon as a runner of pool {pool!r} loads this function{mend}",
        )
    return Finding(
        f"no runner: every runner of pool {pool!r} that has function {function_id!r} is shutting down",
        f"the next runner of pool {pool!r} takes it{mend}",
    )


def no_pods(pods: Pods) -> Finding:
    """Why a pool on a cluster has no runner: how many pods are ready, and what keeps the others."""
    why = (
        " (" + ": ".join(brief(text) for text in (pods.reason, pods.message) if text) + ")" if pods.reason or pods.message else ""
    )
    whose = "no runner of the new revision" if pods.coming else "no runner"
    waits = "the revision before serves" if pods.coming else "runs wait"
    return Finding(
        f"{whose}: {pods.ready}/{pods.wanted} pods ready{why}",
        f"{waits}; {POD_MENDS.get(pods.reason, 'this ends as soon as a pod is ready')}",
    )


_PULL = "correct the image's name, or give the pull secret"
_CONFIG = "make what the pod names (Secret, ConfigMap, volume)"
POD_MENDS = {
    "ImagePullBackOff": _PULL,
    "ErrImagePull": _PULL,
    "InvalidImageName": _PULL,
    "ErrImageNeverPull": _PULL,
    "CreateContainerConfigError": _CONFIG,
    "CreateContainerError": _CONFIG,
    "RunContainerError": _CONFIG,
    "Unschedulable": "make room, or ask for less in spec.runner.resources",
    "CrashLoopBackOff": "'kubectl logs --previous' of the pod shows its end; mend that",
    "OOMKilled": "raise spec.runner.resources.limits.memory, or do less in a step",
    "HandlerImportFailed": "mend the code at that line and apply it",
}
"""What to do, by a pod's own reason."""


def _inactive(facts: FunctionFacts) -> FunctionWhy:
    live = facts.due + facts.blocked + facts.running + facts.resting
    rest = f"; {_runs(live)} in flight, which may end" if live else ""
    name = facts.owner.removeprefix(CLUSTER)
    mend = (
        f"if DurableFunction {name!r} is there, set spec.suspend to false, or take its annotation away"
        if facts.owner.startswith(CLUSTER)
        else "register it again to have it start runs"
    )
    return FunctionWhy(FunctionState.INACTIVE, f"suspended or deleted: it starts no run{rest}", None, None, mend)


def _well(facts: FunctionFacts, now: int, oldest_due: int | None) -> FunctionWhy:
    tick = f"; the next tick is at {clock_time(facts.next_tick, now)}" if facts.next_tick else ""
    live = facts.due + facts.running + facts.resting
    if not live:
        return FunctionWhy(
            FunctionState.READY, f"nothing waits{tick}", None, facts.next_tick, "the next event or tick that matches starts a run"
        )
    sentence = f"{facts.running} running, {facts.due} due, {facts.resting} asleep, waiting or to be tried again{tick}"
    return FunctionWhy(FunctionState.WORKING, sentence, oldest_due, facts.next_tick, "each run says what it waits for")


def _cluster_hint(owner: str) -> str:
    return (
        f"; 'kubectl describe dfn {owner.removeprefix(CLUSTER)}' names what keeps its pods" if owner.startswith(CLUSTER) else ""
    )


def _count(runners: int) -> str:
    return "1 runner" if runners == 1 else f"{runners} runners"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
