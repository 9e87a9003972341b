"""A pass: one go through a function's code from the top. What user code and the step verbs are handed, and how it is dropped."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from stepwell.engine.journal import Key
from stepwell.spec.function import FunctionSpec

if TYPE_CHECKING:
    from stepwell.engine.execution import Execution

PUT_AWAY = "stepwell puts this execution away; it goes on later from its journal. Let CancelledError pass, don't catch it."


class Lost(asyncio.CancelledError):
    """The run is no longer this execution's: cancelled, taken over, or put away. It derives from BaseException on purpose."""


class Code(Protocol):
    """User code behind the one seam: called with a pass, answers with the output's JSON."""

    @property
    def spec(self) -> FunctionSpec:
        """What the function is configured as."""
        ...

    async def __call__(self, passing: "Pass") -> bytes:
        """Run the code once from the top."""
        ...


class Pass:
    """One go through the code from the top: counts step ids and knows whether it is still replaying."""

    __slots__ = ("attempt", "branches", "closing", "counts", "ended", "execution", "replay_left", "task")

    def __init__(self, execution: "Execution", attempt: int) -> None:
        self.execution = execution
        self.attempt = attempt
        self.closing = False
        self.ended = False
        self.counts: dict[str, int] = {}
        self.branches: set[asyncio.Task[object]] = set()
        self.replay_left = len(execution.journal.memo) + len(execution.journal.waits)
        self.task: asyncio.Task[None] | None = None

    def next_key(self, step_id: str) -> Key:
        """The key of the next use of this id: the id and how often it was used before."""
        occurrence = self.counts.get(step_id, 0)
        self.counts[step_id] = occurrence + 1
        task = asyncio.current_task()
        if task is not None and task is not self.task:
            self.branches.add(task)
        return (step_id, occurrence)

    @property
    def shut(self) -> bool:
        """Whether steps do nothing any more: the pass was dropped, or its code has returned or raised."""
        return self.closing or self.ended or self.execution.is_over

    def check_open(self) -> None:
        """Raise Lost where steps do nothing any more: no verb returns to code whose pass is shut."""
        if self.shut:
            raise Lost(PUT_AWAY)

    def replaying(self) -> bool:
        """Whether the code is still where it has been before."""
        return self.replay_left > 0

    def pass_by(self) -> None:
        """The code came by a step that an earlier pass recorded or opened."""
        if self.replay_left:
            self.replay_left -= 1

    def close(self) -> None:
        """Drop the pass: cancel its code wherever it stands."""
        self.closing = True
        for task in (self.task, *self.branches):
            if task is not None and not task.done() and task is not asyncio.current_task():
                task.cancel(PUT_AWAY)
