"""`stepwell`: one command, its parts imported only when asked for."""

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS: dict[str, tuple[str, str]] = {
    "dev": ("dev", "Run everything in one process: gateway, runner, cron, on SQLite."),
    "send": ("send", "Send an event."),
    "invoke": ("invoke", "Start a function by its id."),
    "runs": ("runs", "List, show, cancel and rerun runs."),
    "events": ("events", "List and show events."),
    "pause": ("pause", "Have a function's runs wait."),
    "resume": ("resume", "Let a paused function's runs go on."),
    "keys": ("keys", "Make, list and revoke keys for senders."),
    "validate": ("validate", "Check functions and manifests without running them."),
    "manifests": ("manifests", "Print the manifests of decorated functions, as YAML."),
    "gateway": ("gateway", "Run a gateway: events in, runs to look at."),
    "runner": ("runner", "Run a runner: it executes functions."),
    "store": ("store", "Migrate and examine a store."),
}
"""Command: its module in this package and its summary, so that `stepwell --help` imports nothing else."""

DONE, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 usage, 3 not reachable."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in {"-h", "--help", "help"}:
        sys.stdout.write(overview())
        return DONE if given else USAGE
    if given[0] in {"-V", "--version"}:
        from importlib.metadata import version  # noqa: PLC0415  # help and commands start faster without it

        sys.stdout.write(f"stepwell {version('stepwell')}\n")
        return DONE
    if given[0] not in COMMANDS:
        sys.stderr.write(f"stepwell: there is no command {given[0]!r}; there are: {', '.join(COMMANDS)}\n")
        return USAGE
    try:
        return _run(given[0], given[1:])
    except BrokenPipeError:
        # Whoever read our output has enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def overview() -> str:
    """What `stepwell --help` prints."""
    width = max(len(name) for name in COMMANDS)
    lines = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return (
        "Usage: stepwell COMMAND [OPTIONS]\n\n"
        "Durable functions in Python: steps that survive crashes, deploys and long waits.\n\n"
        f"Commands:\n{lines}\n\n"
        "  stepwell COMMAND --help    shows a command's options\n"
        "  stepwell --version         shows the version\n\n"
        "Exit codes: 0 done, 1 failed, 2 usage, 3 not reachable.\n"
    )


def _run(name: str, arguments: list[str]) -> int:
    from stepwell.errors import NotReachable, StepwellError  # noqa: PLC0415

    # Rich is not used, even where it happens to be installed: plain text is the same everywhere.
    os.environ.setdefault("TYPER_USE_RICH", "0")
    module = importlib.import_module(f"stepwell.cli.{COMMANDS[name][0]}")
    try:
        module.app(args=arguments, prog_name=f"stepwell {name}")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED if ended.code else DONE
    except StepwellError as error:
        from stepwell.cli.show import clean  # noqa: PLC0415
        from stepwell.settings import SettingsError  # noqa: PLC0415

        sys.stderr.write(f"stepwell {name}: {clean(str(error))}\n")
        return UNREACHABLE if isinstance(error, NotReachable) else USAGE if isinstance(error, SettingsError) else FAILED
    return DONE
