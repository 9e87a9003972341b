"""How far the steps under way are, in their own words: shown while an attempt runs and forgotten with it; never history.

    body ──tell──▶ Attempt ──▶ Board ──▶ the gauge by function · `GET /v1/runs/{id}` of the same process
                      │          └─────▶ the next beat, with the lease ──▶ `GET /v1/runs/{id}` of any other
                      └──────▶ a log line now and then

Bodies tell from the event loop or from a thread, as often as they like: the last word takes the place of the one before, nothing
is queued and nothing is written but what the beat, which goes out anyway, carries along. No lock is taken, so that a thread which
stands still holds up nobody.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace

from stepwell.clock import Clock
from stepwell.errors import StepMisuse
from stepwell.log import RunLogger
from stepwell.store.views import ProgressRow

MOST_NOTE = 200
MOST_CARRIED = 64
"""So many words go along with a beat, the newest ones,"""
MOST_OF_RUN = 8
"""of one run no more than this,"""
MOST_NOTE_CARRIED = 100
"""with so much of each note: some kilobytes at most in a row that lives on."""
PARTS = 10
"""A line is logged for each tenth that is reached,"""
LOG_EVERY = 5_000_000
"""and where no tenth is, once in so many microseconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which attempt it is that tells."""

    run_id: str
    function_id: str
    step_id: str
    occurrence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What an attempt last told, and when."""

    place: Place
    ratio: float
    note: str
    told: int

    @property
    def row(self) -> ProgressRow:
        """The same for people and for the store."""
        place = self.place
        return ProgressRow(place.run_id, place.step_id, place.occurrence, place.attempt, self.ratio, self.note, self.told)


class Board:
    """What the attempts under way in this process have told, those that have told anything."""

    def __init__(self) -> None:
        self.told: dict[Attempt, Progress] = {}

    def of_run(self, run_id: str) -> list[Progress]:
        """What the steps of this run have told, by step."""
        found = [one for one in list(self.told.values()) if one.place.run_id == run_id]
        return sorted(found, key=lambda one: (one.place.step_id, one.place.occurrence))

    def newest(self) -> list[ProgressRow]:
        """What is worth a beat's while, newest first; asked from any thread."""
        found: list[ProgressRow] = []
        of_run: Counter[str] = Counter()
        for one in sorted(self.told.values(), key=lambda one: one.told, reverse=True):
            run_id = one.place.run_id
            of_run[run_id] += 1
            if of_run[run_id] <= MOST_OF_RUN:
                found.append(replace(one.row, note=_carried(one.note)))
            if len(found) == MOST_CARRIED:
                break
        return found

    def least(self) -> dict[str, float]:
        """The least ratio of each function; asked from any thread."""
        found: dict[str, float] = {}
        for one in list(self.told.values()):
            function_id = one.place.function_id
            found[function_id] = min(one.ratio, found.get(function_id, one.ratio))
        return found


class Attempt:
    """One attempt of a step as it tells of itself, until `end`; what is told later comes to nothing."""

    __slots__ = ("_board", "_clock", "_line_at", "_logger", "_over", "_place", "_tenth")

    def __init__(self, board: Board, place: Place, clock: Clock, logger: RunLogger) -> None:
        self._board = board
        self._place = place
        self._clock = clock
        self._logger = logger
        self._over = False
        self._tenth = -1
        self._line_at = 0

    def tell(self, ratio: float, note: str) -> None:
        """Show this from now on. StepMisuse for a ratio outside of 0 to 1 and for a note that is too long."""
        self._check(ratio, note)
        if self._over:
            return
        said = Progress(self._place, float(ratio), note, self._clock.now())
        self._board.told[self] = said
        if self._over:  # it ended meanwhile: either its end saw what was put down here, or this sees that it ended
            self._board.told.pop(self, None)
            return
        self._log(said)

    def end(self) -> None:
        """The attempt is over: forget what it told."""
        self._over = True
        self._board.told.pop(self, None)

    def _check(self, ratio: object, note: object) -> None:
        step_id = self._place.step_id
        if not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
            raise StepMisuse(
                f"progress of step {step_id!r}: the ratio is a number from 0 to 1, such as done / total, not {ratio!r:.60}"
            )
        if not isinstance(note, str) or len(note) > MOST_NOTE or not note.isprintable():
            raise StepMisuse(f"progress of step {step_id!r}: {_odd_note(note)}")

    def _log(self, said: Progress) -> None:
        """Write a line at the first word, at each tenth that none before it reached, and every five seconds."""
        tenth = int(said.ratio * PARTS)
        if tenth <= self._tenth and said.told - self._line_at < LOG_EVERY:
            return
        self._tenth = max(self._tenth, tenth)
        self._line_at = said.told
        fields = {"ratio": said.ratio, "note": said.note} if said.note else {"ratio": said.ratio}
        with suppress(Exception):  # a line that can't be written fails no step
            self._logger.info("step progress", **fields)


def _carried(note: str) -> str:
    return note if len(note) <= MOST_NOTE_CARRIED else f"{note[: MOST_NOTE_CARRIED - 1]}…"


def _odd_note(note: object) -> str:
    if not isinstance(note, str):
        return f"the note is text, not {type(note).__name__}: {note!r:.60}"
    if len(note) > MOST_NOTE:
        return f"the note has at most {MOST_NOTE} characters; {note[:20]!r}… has {len(note)}"
    return f"the note is one line of printable characters, and {note!r:.60} has others"
