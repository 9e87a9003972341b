"""One error class per reaction; every message says what, where and how to mend it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


class StepwellError(Exception):
    """The root of all errors that Stepwell raises for people to see. `code` names its page in docs/reference/errors.md."""

    code: str = "DF0001"


class NonRetriableError(StepwellError):
    """Raise it in a step or between steps: no further try is made."""

    code = "DF0101"


class RetryAfterError(StepwellError):
    """Raise it to choose when the next try is made; it still counts as a try.

    `after` is seconds, a timedelta, an aware datetime or text such as "30s".
    """

    code = "DF0102"

    def __init__(self, message: str, after: float | timedelta | datetime | str) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, slots=True)
class Cause:
    """What a recorded error was made from: the class name, the message, and what it was raised from."""

    name: str
    message: str
    cause: "Cause | None" = None


class StepError(StepwellError):
    """A step failed for good. It survives replay unchanged: it is rebuilt from the journal each time.

    `name` is the class name of the error, `message` its text, `step_id` the step's id, `attempts` how many tries were
    made, `cause` what the error was raised from.
    """

    code = "DF0103"

    def __init__(self, name: str, message: str, step_id: str, attempts: int = 1, cause: Cause | None = None) -> None:
        super().__init__(f"step {step_id!r} failed after {attempts} {'try' if attempts == 1 else 'tries'}: {name}: {message}")
        self.name = name
        self.message = message
        self.step_id = step_id
        self.attempts = attempts
        self.cause = cause


class SpecError(NonRetriableError):
    """A function's definition is wrong. `path` is where (`triggers[0].if`), `column` the place in an expression (from 1)."""

    code = "DF0201"

    def __init__(self, message: str, path: str = "", column: int | None = None) -> None:
        where = f"{path}: " if path else ""
        super().__init__(f"{where}{message}")
        self.message = message
        self.path = path
        self.column = column


class ValueRefused(NonRetriableError):
    """A value can't be kept as JSON. `path` is where in it (`result.items[3]`)."""

    code = "DF0301"

    def __init__(self, message: str, path: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class TooLarge(NonRetriableError):
    """Something is over its limit; the message names the thing, its size and the limit (bytes or a count)."""

    code = "DF0302"


class StepMisuse(NonRetriableError):
    """The code asks for what can't be: a step in a step, another kind under a recorded key, too many steps."""

    code = "DF0104"


class Unknown(StepwellError):
    """There is no such run, event or function."""

    code = "DF0401"


class StoreError(StepwellError):
    """The store answers, but can't be used: schema missing or too new, unsafe settings, an old library."""

    code = "DF0501"


class StoreUnavailable(StoreError):
    """The store can't be reached, is full or read-only. What was asked may or may not have happened; ask again."""

    code = "DF0502"


class AddressRefused(StoreError):
    """The store's address can't be read, or the server refuses who or what it names. The message holds no part of it."""

    code = "DF0504"


class RoleRefused(AddressRefused):
    """The server refuses the role or its password, or the schema isn't the role's to make or change: it may be lost there."""


class AnswerTooLarge(StoreError):
    """The store answered with more bytes than whoever asked takes."""


class SchemaPending(StoreError):
    """The well's schema isn't there, isn't the role's, or lacks migrations: somebody may be making or restoring it now."""

    code = "DF0505"


class NotReachable(StepwellError):
    """A gateway did not answer."""

    code = "DF0503"


def problem(error: StepwellError, status: int, **more: Any) -> Mapping[str, Any]:
    """An RFC 9457 problem document for this error."""
    return {
        "type": f"https://stepwell.dev/errors/{error.code}",
        "title": type(error).__name__,
        "status": status,
        "detail": str(error),
        **more,
    }
