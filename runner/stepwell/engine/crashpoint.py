"""Named places at which a test lets the process die, as `kill -9` does. Off, they cost one look at a constant.

`STEPWELL_CRASHPOINT=record-after:3` kills the process at its third arrival at `record-after`. The names: `claim-before`,
`claim-after`, `body-before`, `body-after`, and for each commit that holds a turn of the kind `record`, `park` or `end`,
`<kind>-before` and `<kind>-after`; `start-before`, `start-after` for one that starts runs; `beat-before`, `beat-after`.
"""

import os
import signal
from collections.abc import Sequence

from stepwell.store.records import End, Pile, Turn

NAME, _, _COUNT = os.environ.get("STEPWELL_CRASHPOINT", "").partition(":")
"""The point at which this process is to die; empty for never."""
_left = [int(_COUNT or 1)]


def crashpoint(name: str) -> None:
    """Die here if this is the point, and its turn."""
    if name != NAME:
        return
    _left[0] -= 1
    if _left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def crashpoint_of(pile: Pile, side: str) -> None:
    """Die at a commit of this kind."""
    for kind in _kinds(pile.turns):
        crashpoint(f"{kind}-{side}")
    if pile.starts:
        crashpoint(f"start-{side}")


def _kinds(turns: Sequence[Turn]) -> set[str]:
    return {"record" if turn.then is None else "end" if isinstance(turn.then, End) else "park" for turn in turns}
