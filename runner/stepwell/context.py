"""What user code holds: the context of its run, and in a step that step's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from stepwell.engine.attempt import StepInfo, current
from stepwell.errors import StepMisuse
from stepwell.event import DataT, Event
from stepwell.log import RunLogger
from stepwell.step import Step


@dataclass(frozen=True, slots=True)
class Context(Generic[DataT]):
    """The run as its code sees it.

    `event` started it (`events` are all of them, where several did). `attempt` counts from 0: the try of the step or of the
    stretch between steps that is under way; `max_attempts` is how many there can be.
    """

    event: Event[DataT]
    events: Sequence[Event[DataT]]
    run_id: str
    function_id: str
    max_attempts: int
    logger: RunLogger
    step: Step

    @property
    def attempt(self) -> int:
        """The try now under way, from 0: of the step that made the code run again, or of the stretch since the last step."""
        return self.step.attempt


def current_step() -> StepInfo:
    """The step whose body is running: `id`, `attempt`, `idempotency_key`, `logger`. StepMisuse outside of one."""
    info = current.get()
    if info is None:
        raise StepMisuse("current_step() is for code inside a step: call it in the function that step.run runs")
    return info
