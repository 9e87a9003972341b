"""Amounts of CPU and memory as Kubernetes writes them: `500m`, `1`, `512Mi`."""

import re
from decimal import Decimal
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from stepwell.spec.fault import refusal
from stepwell.spec.option import Option, option
from stepwell.spec.text import Text, TextMap

MOST_RESOURCES = 16
MOST_WHOLE = 10**18 - 1
EXACT = frozenset({"cpu", "memory", "ephemeral-storage"})
"""What may be requested below its limit; of everything else (GPUs, huge pages) a pod gets what its limit says."""

UNITS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}
PARTS = {"m": 3, "u": 6, "n": 9}

_DOMAIN = "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
RESOURCE_FORM = Text(
    317,
    "cpu, memory, ephemeral-storage, hugepages-SIZE or a name with a domain, such as nvidia.com/gpu",
    f"^(cpu|memory|ephemeral-storage|hugepages-[0-9]{{1,4}}[KMGT]i|{_DOMAIN}/[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?)$",
)
AMOUNT_FORM = Text(
    32,
    "an amount such as 500m, 2 or 512Mi",
    r"^[0-9]{1,18}(\.[0-9]{1,9})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2})?$",
)


def _texts(given: object) -> object:
    """The mapping with its whole numbers as text, for YAML reads `cpu: 2` as one."""
    if not isinstance(given, dict):
        return given
    return {name: _text(value) for name, value in cast("dict[Any, Any]", given).items()}


def _text(value: object) -> object:
    if isinstance(value, float):
        raise refusal(f"an amount with a fraction is written as text: '{value}'")
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_WHOLE
    return str(value) if whole else value


_MAP = TextMap(RESOURCE_FORM, AMOUNT_FORM, MOST_RESOURCES)
Amounts = Annotated[
    dict[str, str],
    _MAP,
    BeforeValidator(_texts),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MOST_RESOURCES,
            "propertyNames": RESOURCE_FORM.schema(),
            "additionalProperties": {
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "maxLength": AMOUNT_FORM.most,
                "pattern": AMOUNT_FORM.pattern,
                "minimum": 0,
                "maximum": MOST_WHOLE,
            },
        }
    ),
]


@option
class Resources(Option):
    """What a pod of the function needs, and what it may use at most."""

    requests: Amounts | None = None
    """What is set aside for each pod, such as {cpu: 100m, memory: 256Mi}."""
    limits: Amounts | None = None
    """What each pod may use at most, such as {memory: 512Mi}."""

    @model_validator(mode="after")
    def _check_fit(self) -> "Resources":
        limits = self.limits or {}
        for name, text in (self.requests or {}).items():
            limit = limits.get(name)
            if limit is not None and amount(text) > amount(limit):
                raise refusal(f"{text} is more than the limit, {limit}", f"requests.{name}")
            if name not in EXACT and (limit is None or amount(text) != amount(limit)):
                raise refusal(
                    f"must be the same in `limits`: nobody gets less or more of {name} than the limit", f"requests.{name}"
                )
        return self


def amount(text: str) -> Decimal:
    """The number that an amount stands for, exactly."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    if found is None:  # with an exponent
        return Decimal(text)
    number, unit = Decimal(found[1]), found[2]
    return number.scaleb(-PARTS[unit]) if unit in PARTS else number * UNITS[unit]
