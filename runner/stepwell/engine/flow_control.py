"""The rules between a match and a start: a visible chain of pure checks, each answering with a reason.

Here are idempotency and concurrency. Rate limit, debounce, batch, singleton, throttle and priority join the chain later:
each is one more rule in `RULES`, and what it decides one more field of `Admission`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from stepwell import values
from stepwell.engine.expression import Activation, compile_expression
from stepwell.spec.function import Concurrency, FunctionSpec

DAY = 86_400_000_000
KEY_SHOWN = 200


@dataclass(slots=True)
class Admission:
    """What the rules say of one start. `notes` are (rule, reason) for people: an expression that gave no value, say."""

    idempotency_key: str | None = None
    idempotency_until: int = 0
    concurrency: tuple[str, ...] = ()
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


Rule = Callable[[FunctionSpec, Activation, int, Admission], None]


def admit(spec: FunctionSpec, activation: Activation, now: int) -> Admission:
    """Pass one start through every rule, in order."""
    admission = Admission()
    for rule in RULES:
        rule(spec, activation, now, admission)
    return admission


def idempotency(spec: FunctionSpec, activation: Activation, now: int, admission: Admission) -> None:
    """One run per value of the expression in 24 hours. No value (a missing attribute): nothing to compare, so it starts."""
    if spec.idempotency is None:
        return
    value, error = _value(spec.idempotency, activation)
    if error is not None:
        admission.notes.append(("idempotency", error))
        return
    admission.idempotency_key = value
    admission.idempotency_until = now + DAY


def concurrency(spec: FunctionSpec, activation: Activation, now: int, admission: Admission) -> None:
    """The keys under which this run's lease will count. No value for a key: it counts under `null`."""
    del now
    if spec.concurrency:
        admission.concurrency = tuple(_slot(spec.id, rule, activation, admission) for rule in spec.concurrency)


RULES: tuple[Rule, ...] = (idempotency, concurrency)


def _slot(function_id: str, rule: Concurrency, activation: Activation, admission: Admission) -> str:
    place = function_id if rule.scope == "function" else ""
    if rule.key is None:
        return place
    value, error = _value(rule.key, activation)
    if error is not None:
        admission.notes.append(("concurrency", error))
        value = "null"
    return f"{place}:{value}"


def _value(text: str, activation: Activation) -> tuple[str, str | None]:
    result = compile_expression(text).value(activation)
    if result.error is not None:
        return "", result.error
    encoded = values.canonical(result.value).decode()
    return (encoded if len(encoded) <= KEY_SHOWN else values.digest(encoded.encode())), None
