"""Which functions an event starts: first by name through an index, then by expression. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stepwell.engine.expression import Activation, compile_expression
from stepwell.spec.function import EventTrigger, Trigger
from stepwell.spec.names import native_name

__all__ = ["Match", "TriggerIndex", "matches", "matching", "native_name"]

TRIGGER_NAMES = ("event",)
Candidate = tuple[str, tuple[EventTrigger, ...]]


@dataclass(frozen=True, slots=True)
class Match:
    """Whether the event starts the function (once, however many triggers match), and what expressions could not say."""

    matched: bool
    errors: tuple[str, ...] = ()


class TriggerIndex:
    """Functions by event name, so that an event meets the expressions of those alone that listen to its name."""

    def __init__(self, functions: Iterable[tuple[str, Sequence[Trigger]]]) -> None:
        self._exact: dict[str, list[Candidate]] = {}
        self._prefixes: dict[str, list[Candidate]] = {}
        for function_id, triggers in functions:
            self._add(function_id, [trigger for trigger in triggers if isinstance(trigger, EventTrigger)])

    def candidates(self, name: str) -> list[Candidate]:
        """The functions that have triggers for this name, each once, with those triggers."""
        found = self._exact.get(name, [])
        if not self._prefixes:
            return found
        by_function = dict(found)
        for prefix in prefixes(name):
            for function_id, triggers in self._prefixes.get(prefix, ()):
                by_function[function_id] = by_function.get(function_id, ()) + triggers
        return list(by_function.items())

    def hears(self, prefix: str) -> bool:
        """Whether any trigger may match a name that begins with `prefix`."""
        return any(name.startswith(prefix) for name in self._exact) or any(
            wild.startswith(prefix) or prefix.startswith(wild) for wild in self._prefixes
        )

    def match(self, triggers: Sequence[EventTrigger], activation: Activation) -> Match:
        """Whether one of these triggers, whose name matches already, is true of the event."""
        return matches(triggers, activation)

    def _add(self, function_id: str, triggers: Sequence[EventTrigger]) -> None:
        named: dict[tuple[bool, str], tuple[EventTrigger, ...]] = {}
        for trigger in triggers:
            name = native_name(trigger.event)
            place = (name.endswith("*"), name.removesuffix("*"))
            named[place] = (*named.get(place, ()), trigger)
        for (is_wild, name), those in named.items():
            (self._prefixes if is_wild else self._exact).setdefault(name, []).append((function_id, those))


def matching(triggers: Sequence[Trigger], activation: Activation, name: str) -> Match | None:
    """Match an event of this name with one function's triggers; None if none of them is for the name."""
    found = [trigger for trigger in triggers if isinstance(trigger, EventTrigger) and is_for(trigger, name)]
    return matches(found, activation) if found else None


def matches(triggers: Sequence[EventTrigger], activation: Activation) -> Match:
    """Whether one of these triggers is true of the event; one without `if` is asked first, for it needs no evaluation."""
    if any(trigger.if_ is None for trigger in triggers):
        return Match(matched=True)
    errors: list[str] = []
    for trigger in triggers:
        if trigger.if_ is not None:
            verdict = compile_expression(trigger.if_, TRIGGER_NAMES).test(activation)
            if verdict.matched:
                return Match(matched=True, errors=tuple(errors))
            if verdict.error is not None:
                errors.append(f"{trigger.if_}: {verdict.error}")
    return Match(matched=False, errors=tuple(errors))


def is_for(trigger: EventTrigger, name: str) -> bool:
    """Whether the trigger is for events of this name, by itself or as a wildcard."""
    return covers(native_name(trigger.event), name)


def covers(wanted: str, name: str) -> bool:
    """Whether this is the name, or a wildcard that stands for it."""
    return name.startswith(wanted[:-1]) and len(name) > len(wanted) - 1 if wanted.endswith("*") else name == wanted


def prefixes(name: str) -> list[str]:
    """What a wildcard that matches the name may have before its `*`: `a/b.c` has `a/` and `a/b.`."""
    return [name[: place + 1] for place, char in enumerate(name[:-1]) if char in "/."]
