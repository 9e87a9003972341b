"""What a step of an example wants to do, in small numbers that mean something only beside the rows that there are.

Hypothesis draws and shrinks these; piling.py makes piles of them.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

NAMES = 3
"""How many event names, and how many signals, there are."""
IDS = 8
"""How many ids senders choose from: few, so that many are sent again."""
PLACES = st.integers(0, 30)
SMALL = st.integers(0, 2)
FLAG = st.booleans()


@dataclass(frozen=True, slots=True)
class Begin:
    """One run to create. `key` is its idempotency key's number, 0 for none, kept for `kept` seconds."""

    function: int = 0
    key: int = 0
    kept: int = 100
    later: int = 0
    start_by: int = 0
    finish_within: int = 0
    cancel_on: int = -1
    fused: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """One event and the runs that it starts."""

    id: int
    name: int
    body: int
    starts: tuple[Begin, ...] = ()
    decided: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a turn does; `a` names a step, `b` what it is about; `name` is the very step."""

    what: str
    a: int = 0
    b: int = 0
    begin: Begin = Begin()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One turn. `stale` takes a lease that is no longer the run's; `unseen` is how much of its inbox it doesn't know of."""

    which: int
    acts: tuple[Act, ...] = ()
    then: str = "go on"
    stale: bool = False
    unseen: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """One run to cancel; `ended` takes one that has ended."""

    which: int
    ended: bool = False
    only_unclaimed: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A claim by a runner."""

    runner: int = 0
    room: int = 3
    sweep: bool = False
    watch: bool = False


@dataclass(frozen=True, slots=True)
class Tock:
    """A due instant of a schedule: the next one, or one that was accounted for before."""

    schedule: int
    again: bool = False
    outcome: int = 1


@dataclass(frozen=True, slots=True)
class Wake:
    """A run that is wanted at once."""

    which: int


@dataclass(frozen=True, slots=True)
class Give:
    """An event (or nobody's hand, where `sent` is none) for an open wait."""

    which: int
    body: int


Intent = Sent | Begin | Work | Stop | Ask | Tock | Wake | Give

BEGINS = st.builds(
    Begin,
    function=st.integers(0, 3),
    key=st.sampled_from((0, 0, 1, 2)),
    kept=st.sampled_from((10, 100)),
    later=st.sampled_from((0, 0, 0, 20)),
    start_by=st.sampled_from((0, 0, 15)),
    finish_within=st.sampled_from((0, 0, 50)),
    cancel_on=st.sampled_from((-1, -1, 0, 1)),
    fused=FLAG,
)
SENTS = st.builds(
    Sent,
    id=st.integers(0, IDS - 1),
    name=st.integers(0, NAMES - 1),
    body=st.sampled_from((0, 0, 1)),
    starts=st.lists(BEGINS, max_size=2, unique_by=lambda one: one.function).map(tuple),
    decided=FLAG,
)
WHAT = (
    "record",
    "record",
    "fail",
    "retry",
    "sleep",
    "event",
    "event",
    "signal",
    "invoke",
    "close",
    "close",
    "send",
    "send signal",
    "between",
)
ACTS = st.builds(Act, what=st.sampled_from(WHAT), a=SMALL, b=SMALL, begin=BEGINS)
WAITS = st.builds(
    Act, what=st.sampled_from(("event", "event", "signal", "invoke", "sleep", "retry")), a=SMALL, b=SMALL, begin=BEGINS
)
ENDS = ("complete", "complete", "fail")
UNSEEN = st.sampled_from((0, 0, 0, 1))
WORKS = st.builds(
    Work,
    which=PLACES,
    acts=st.lists(ACTS, max_size=3).map(tuple),
    then=st.sampled_from(("go on", "go on", "park", "park", "drain", "retry", *ENDS)),
    unseen=UNSEEN,
)
WAITING = st.builds(
    Work,
    which=PLACES,
    acts=st.lists(WAITS, min_size=1, max_size=2).map(tuple),
    then=st.sampled_from(("go on", "park", "park")),
    unseen=UNSEEN,
)
STALE_WORKS = st.builds(
    Work,
    which=PLACES,
    acts=st.lists(ACTS, max_size=2).map(tuple),
    then=st.sampled_from(("go on", "park", *ENDS)),
    stale=st.just(True),
)
STOPS = st.builds(Stop, which=PLACES, ended=st.sampled_from((False, False, False, True)), only_unclaimed=FLAG, failed=FLAG)
ASKS = st.builds(Ask, runner=st.integers(0, 3), room=st.sampled_from((0, 1, 2, 10)), sweep=FLAG, watch=FLAG)
TOCKS = st.builds(
    Tock, schedule=st.integers(0, 2), again=st.sampled_from((False, False, True)), outcome=st.sampled_from((1, 1, 1, 2, 4))
)
WAKES = st.builds(Wake, which=PLACES)
GIVES = st.builds(Give, which=PLACES, body=SMALL)
MIXED = st.lists(st.one_of(WORKS, WAITING, STALE_WORKS, SENTS, BEGINS, STOPS, TOCKS, WAKES, GIVES), min_size=2, max_size=4)
