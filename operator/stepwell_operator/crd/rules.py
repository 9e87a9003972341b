"""Rules in CEL that the API server checks, with messages that say what to write.

`must` is for what is required, `may not` and `may only` for what excludes each other; names of fields stand in back-quotes.
A rule holds for the part of the schema at its path. The API server checks rules only when all types are right.
"""

from dataclasses import dataclass

from stepwell.spec.cron import MACROS
from stepwell.spec.document import STORE_NAME_FORM
from stepwell.spec.environment import RESERVED as RESERVED_VARIABLES
from stepwell.spec.environment import RESERVED_FAULT as RESERVED_VARIABLES_FAULT
from stepwell.spec.function import FAILURE_SUFFIX, MAX_EXPRESSIONS, MAX_ID
from stepwell.spec.manifest import MAX_NAME
from stepwell.spec.object_options import ID_FORM
from stepwell.spec.quantity import RESOURCE_FORM
from stepwell.spec.runner import RESERVED as RESERVED_KEYS
from stepwell.spec.runner import RESERVED_FAULT as RESERVED_KEYS_FAULT
from stepwell.spec.runner import SYSTEM, SYSTEM_FAULT
from stepwell.spec.source import IMAGE_FORM, MAX_CODE
from stepwell.spec.text import CLEANUP_FORM, FUNCTION_FORM, LABEL_KEY_FORM, PATH_FORM, Text


@dataclass(frozen=True, slots=True)
class Rule:
    """What must be true of the value at `at`. `field` is the field below it that is to blame, if it is one."""

    at: str
    expression: str
    message: str
    field: str = ""

    def document(self) -> dict[str, str]:
        """The rule as a schema has it."""
        made = {"rule": self.expression, "message": self.message}
        return {**made, "fieldPath": f".{self.field}"} if self.field else made


TAUGHT: dict[str, Text] = {
    "spec.functionId": ID_FORM,
    "spec.onFailure": CLEANUP_FORM,
    "spec.source.inline.handler": FUNCTION_FORM,
    "spec.source.configMap.handler": FUNCTION_FORM,
    "spec.source.image.image": IMAGE_FORM,
    "spec.source.image.handler": PATH_FORM,
}
"""Fields whose pattern is checked by a rule, whose message says what is wanted, where a pattern's message is the pattern."""


def taught(at: str, form: Text) -> Rule:
    """The rule that takes a pattern's place."""
    return Rule(at, f"self.matches(r'{form.pattern}')", f"must be {form.looks}")


def _exactly_one(at: str, *fields: str) -> Rule:
    given = ", ".join(f"has(self.{field})" for field in fields)
    quoted = [f"`{field}`" for field in fields]
    named = f"{', '.join(quoted[:-1])} or {quoted[-1]}"
    return Rule(at, f"[{given}].exists_one(given, given)", f"exactly one of {named} must be set")


def _only_with(at: str, field: str, other: str) -> Rule:
    name = f"__{field}__" if field == "if" else field
    return Rule(at, f"!has(self.{name}) || has(self.{other})", f"`{field}` may only be specified with `{other}`", field)


def _keys(at: str, form: Text) -> Rule:
    return Rule(
        at, f"self.all(key, size(key) <= {form.most} && key.matches(r'{form.pattern}'))", f"each name must be {form.looks}"
    )


def _not_reserved(at: str) -> Rule:
    return Rule(at, f"!self.exists(key, key.matches(r'{RESERVED_KEYS}'))", RESERVED_KEYS_FAULT)


def _not_ours(at: str) -> Rule:
    return Rule(at, f"!self.startsWith('{RESERVED_VARIABLES}')", RESERVED_VARIABLES_FAULT)


def _unblanked(at: str) -> Rule:
    return Rule(at, "self.trim() == self", "an event's name may not begin or end with a blank")


_MACRO = "|".join(macro.removeprefix("@") for macro in MACROS)
_CRON = rf"^\s*((CRON_)?TZ=\S+\s+)?(@(?i:{_MACRO})|[^\s@]\S*(\s+\S+){{4}})\s*$"
_STRATEGY = "(has(self.strategy) ? self.strategy : 'table')"
_SCOPE, _KEY = "(has(self[{0}].scope) ? self[{0}].scope : 'function')", "(has(self[{0}].key) ? self[{0}].key : '')"
_MOST_ID = MAX_ID - len(FAILURE_SUFFIX)
_EXPRESSIONS = " + ".join(
    f"(has(self.{field}) ? self.{field}.filter(one, has(one.{name})).size() : 0)"
    for field, name in (("triggers", "__if__"), ("cancelOn", "__if__"), ("concurrency", "key"))
)
_FITS = "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0"

TRIGGER_RULES = (
    _exactly_one("spec.triggers[]", "event", "cron"),
    _only_with("spec.triggers[]", "if", "event"),
    _only_with("spec.triggers[]", "jitter", "cron"),
    _only_with("spec.triggers[]", "missed", "cron"),
    _only_with("spec.triggers[]", "window", "cron"),
    _only_with("spec.triggers[]", "overlap", "cron"),
    Rule(
        "spec.triggers[].cron",
        f"self.matches(r'{_CRON}')",
        "`cron` must have five space-separated fields, or be a macro such as '@daily'",
    ),
    Rule(
        "spec.triggers[].event",
        r"!self.contains('*') || self.matches(r'^[^*]+[/.]\*$')",
        "a wildcard must stand at the end of `event`, after '/' or '.', such as 'app/*' or 'app/user.*'",
    ),
    _unblanked("spec.triggers[].event"),
    Rule("spec.cancelOn[].event", "!self.contains('*')", "`event` may not hold a wildcard; name the event"),
    _unblanked("spec.cancelOn[].event"),
)

CONFIGURATION_RULES = (
    Rule(
        "spec.backoff",
        "!has(self.strategy) || self.strategy != 'table' || has(self.table)",
        "`table` must be set when `strategy` is 'table'; leave both out for the usual one",
        "table",
    ),
    Rule(
        "spec.backoff",
        f"!has(self.table) || {_STRATEGY} == 'table'",
        "`table` may only be specified when `strategy` is 'table' or left out",
        "table",
    ),
    Rule(
        "spec.backoff",
        f"!has(self.base) || {_STRATEGY} != 'table'",
        "`base` may only be specified when `strategy` is 'exponential', 'linear' or 'fixed'",
        "base",
    ),
    Rule(
        "spec.backoff",
        f"!has(self.factor) || {_STRATEGY} == 'exponential'",
        "`factor` may only be specified when `strategy` is 'exponential'",
        "factor",
    ),
    Rule(
        "spec.concurrency[]",
        "!has(self.scope) || self.scope != 'namespace' || has(self.key)",
        "`key` must be set when `scope` is 'namespace'",
        "key",
    ),
    Rule(
        "spec.concurrency",
        f"size(self) < 2 || {_SCOPE.format(0)} != {_SCOPE.format(1)} || {_KEY.format(0)} != {_KEY.format(1)}",
        "two limits may not have the same `key` and `scope`: the smaller one alone would count",
    ),
    Rule(
        "spec.timeouts",
        "!has(self.run) || !has(self.finish)",
        "`run` and `finish` are the same limit; only one of them may be set",
    ),
    Rule(
        "spec",
        f"{_EXPRESSIONS} + (has(self.idempotency) ? 1 : 0) <= {MAX_EXPRESSIONS}",
        f"a function may have {MAX_EXPRESSIONS} expressions at most (`if`, `key` and `idempotency`); join some with `||`",
    ),
)

SOURCE_RULES = (
    _exactly_one("spec.source", "inline", "configMap", "image"),
    Rule(
        "spec.source.inline.code",
        f"size(bytes(self)) <= {MAX_CODE}",
        f"`code` must be no more than {MAX_CODE} bytes of UTF-8; build an image for more",
    ),
)

RUNNER_RULES = (
    _exactly_one("spec.runner.env[]", "value", "valueFrom"),
    _not_ours("spec.runner.env[].name"),
    _exactly_one("spec.runner.env[].valueFrom", "secretKeyRef", "configMapKeyRef"),
    _exactly_one("spec.runner.envFrom[]", "secretRef", "configMapRef"),
    _not_ours("spec.runner.envFrom[].prefix"),
    _keys("spec.runner.labels", LABEL_KEY_FORM),
    _not_reserved("spec.runner.labels"),
    _keys("spec.runner.annotations", LABEL_KEY_FORM),
    _not_reserved("spec.runner.annotations"),
    _keys("spec.runner.nodeSelector", LABEL_KEY_FORM),
    _keys("spec.runner.resources.requests", RESOURCE_FORM),
    _keys("spec.runner.resources.limits", RESOURCE_FORM),
    Rule(
        "spec.runner.resources",
        f"!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || {_FITS})",
        "`requests` may not be more than `limits`",
        "requests",
    ),
    Rule("spec.runner.priorityClassName", f"!self.startsWith('{SYSTEM}')", SYSTEM_FAULT),
    Rule(
        "spec.runner.tolerations[]",
        "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
        "`operator` must be 'Exists' when `key` is not set",
        "operator",
    ),
    Rule(
        "spec.runner.tolerations[]",
        "!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
        "`value` may not be specified when `operator` is 'Exists'",
        "value",
    ),
    Rule(
        "spec.runner.tolerations[]",
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "`tolerationSeconds` may only be specified when `effect` is 'NoExecute'",
        "tolerationSeconds",
    ),
    Rule(
        "spec.runner.topologySpreadConstraints[]",
        "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
        "`minDomains` may only be specified when `whenUnsatisfiable` is 'DoNotSchedule'",
        "minDomains",
    ),
)

IDENTITY_RULES = (
    Rule(
        "",
        f"size(self.metadata.name) <= {MAX_NAME}",
        f"name must be no more than {MAX_NAME} characters: it becomes the prefix of Deployment names",
        "metadata.name",
    ),
    Rule(
        "spec",
        "has(self.functionId) == has(oldSelf.functionId) && (!has(self.functionId) || self.functionId == oldSelf.functionId)",
        "`functionId` is immutable: runs are keyed by it",
        "functionId",
    ),
    Rule(
        "spec",
        "(has(self.storeRef) ? self.storeRef.name : 'default') == (has(oldSelf.storeRef) ? oldSelf.storeRef.name : 'default')",
        "`storeRef` is immutable: runs can't move to another store; make another function, or delete this one first",
        "storeRef",
    ),
    Rule(
        "spec",
        f"!has(self.onFailure) || !has(self.functionId) || size(self.functionId) <= {_MOST_ID}",
        f"with `onFailure`, `functionId` must be no more than {_MOST_ID} characters: '{FAILURE_SUFFIX}' is added",
        "functionId",
    ),
)

FUNCTION_RULES = (*IDENTITY_RULES, *TRIGGER_RULES, *SOURCE_RULES, *CONFIGURATION_RULES, *RUNNER_RULES)

STORE_RULES = (
    Rule(
        "",
        f"size(self.metadata.name) <= {STORE_NAME_FORM.most} && !self.metadata.name.contains('.')",
        f"name must be no more than {STORE_NAME_FORM.most} lower-case letters, digits and '-': it is part of a Service's name",
        "metadata.name",
    ),
    Rule("spec.schema", "!self.startsWith('pg_')", "names that begin with 'pg_' are Postgres's own; choose another"),
)
