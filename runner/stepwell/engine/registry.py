"""One whole version of the registry, parsed: what a process knows when it matches an event."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from stepwell.engine.events import SYSTEM_PREFIX
from stepwell.engine.trigger import TriggerIndex, native_name
from stepwell.spec.function import FunctionSpec
from stepwell.store.records import Limit
from stepwell.store.registry import FunctionRow, PauseRow, Registry, ScheduleRow


@dataclass(frozen=True, slots=True)
class Known:
    """A registered function with its parsed spec."""

    row: FunctionRow
    spec: FunctionSpec


@dataclass(frozen=True)
class KnownRegistry:
    """A registry to match with. Built once per version; functions that did not change keep their parsed spec."""

    version: int = 0
    functions: Mapping[str, Known] = field(default_factory=dict[str, Known])
    resting: Mapping[str, Known] = field(default_factory=dict[str, Known])
    """Functions that start nothing, and may have runs in flight."""
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """For each event name: the paths whose values are the keys of waits."""
    schedules: tuple[ScheduleRow, ...] = ()
    pauses: Mapping[str, PauseRow] = field(default_factory=dict[str, PauseRow])
    """Functions whose runs wait, and because of whom."""

    @cached_property
    def index(self) -> TriggerIndex:
        """Functions by event name."""
        return TriggerIndex([(known.row.function_id, known.spec.triggers) for known in self.functions.values()])

    @cached_property
    def hears_system_events(self) -> bool:
        """Whether anybody listens to `stepwell/function.*`, so that ends have to be told."""
        return self.index.hears(SYSTEM_PREFIX) or any(native_name(name).startswith(SYSTEM_PREFIX) for name in self.paths)

    @property
    def all(self) -> tuple[Known, ...]:
        """Functions that start runs, and those that only end them."""
        return (*self.functions.values(), *self.resting.values())

    def known(self, function_id: str) -> Known | None:
        """A function, whether it starts runs or only ends them."""
        return self.functions.get(function_id) or self.resting.get(function_id)

    @cached_property
    def limits(self) -> Mapping[str, Limit]:
        """The concurrency limits of the functions that have any."""
        return {
            known.row.function_id: Limit(
                known.row.function_id,
                known.spec.concurrency[0].limit,
                known.spec.concurrency[1].limit if len(known.spec.concurrency) > 1 else 0,
            )
            for known in self.all
            if known.spec.concurrency
        }


def parse(registry: Registry, before: KnownRegistry) -> KnownRegistry:
    """Read a stored registry, keeping what `before` had parsed already."""
    paths: dict[str, list[str]] = {}
    for name, path in registry.listens:
        paths.setdefault(name, []).append(path)
    known = [_known(row, before) for row in registry.functions]
    return KnownRegistry(
        version=registry.version,
        functions={one.row.function_id: one for one in known if one.row.active},
        resting={one.row.function_id: one for one in known if not one.row.active},
        paths={name: tuple(found) for name, found in paths.items()},
        schedules=registry.schedules,
        pauses={one.function_id: one for one in registry.pauses},
    )


def _known(row: FunctionRow, before: KnownRegistry) -> Known:
    known = before.known(row.function_id)
    if known is not None and known.row == row and known.row.since == row.since:
        return known
    if known is not None and known.row.spec == row.spec:
        return Known(row, known.spec)
    return Known(row, FunctionSpec.from_json(row.spec))
