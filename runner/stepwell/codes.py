"""What a worker executes. It is exchanged whole and never changed: runs under way keep the code that they began with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from stepwell.engine.passes import Code


@dataclass(frozen=True)
class Codes:
    """Code for any run of a function, or for those of one revision alone."""

    by_function: Mapping[str, Code] = field(default_factory=dict[str, Code])
    by_revision: Mapping[tuple[str, str], Code] = field(default_factory=dict[tuple[str, str], Code])
    broken: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Revisions whose code can't be had in this process, and why."""

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """The ids of the functions."""
        return tuple(dict.fromkeys((*self.by_function, *(function_id for function_id, _revision in self.by_revision))))

    def of(self, function_id: str, revision: str) -> Code | None:
        """The code for a run, None if it isn't here."""
        return self.by_revision.get((function_id, revision)) or self.by_function.get(function_id)
