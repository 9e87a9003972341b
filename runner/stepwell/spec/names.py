"""Event names, as triggers and listeners write them."""

from stepwell.spec.fault import refusal

MAX_NAME = 255


def check_event_name(name: str, *, wildcard: bool) -> None:
    """Refuse a name that no event can have; with `wildcard` also `app/*` and `app/user.*` are names."""
    if not name:
        raise refusal("an event needs a name, such as order/created")
    if len(name) > MAX_NAME:
        raise refusal(f"an event name has at most {MAX_NAME} characters, not {len(name)}")
    if not name.isprintable() or name != name.strip():
        raise refusal(f"{name!r}: an event name has printable characters only and no blanks around it")
    if "*" not in name:
        return
    if not wildcard:
        raise refusal(f"{name!r}: a wildcard is for triggers alone; name the event")
    if name.count("*") > 1 or not name.endswith(("/*", ".*")) or len(name) == len("/*"):
        raise refusal(f"{name!r}: a wildcard stands at the end, after `/` or `.`: app/* or app/user.*")


def native_name(name: str) -> str:
    """Our name for an event: `inngest/function.failed` is `stepwell/function.failed`, all else is itself."""
    return "stepwell/" + name.removeprefix("inngest/") if name.startswith(("inngest/function.", "inngest/scheduled.")) else name
