"""What user code holds: the event that started it, the context, and its steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from typing_extensions import TypeVar

from stepwell.engine.steps import StepInfo, current
from stepwell.errors import StepMisuse
from stepwell.log import RunLogger
from stepwell.step import Step

DataT = TypeVar("DataT", default=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Event(Generic[DataT]):
    """A named, immutable fact.

    `data` is JSON (or the trigger's model). `id` makes it unique: sent again within 7 days it is the same event. `ts` is ms
    since 1970; one in the future delays the runs that it starts. `v` is the version of the data's shape, if you keep one.
    """

    name: str
    data: DataT = field(default_factory=dict)  # type: ignore[assignment]
    id: str | None = None
    ts: int | None = None
    v: str | None = None


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


def event_of(document: Mapping[str, Any], data: Any) -> Event[Any]:
    """The event that a stored document tells of, with its data as given."""
    return Event(document["name"], data, document.get("id"), document.get("ts"), document.get("v"))
