"""What becomes of runs in flight when a function's code changes."""

from typing import Annotated, Literal

from pydantic import Field

from stepwell.spec.option import Option, option

MAX_REVISIONS = 50

Strategy = Literal["Pinned", "Replace"]


@option
class RevisionOptions(Option):
    """What becomes of runs in flight when the code changes, and how many revisions are kept for them."""

    strategy: Strategy = "Pinned"
    """Pinned: a run ends on the revision that it began with. Replace: one Deployment, and all runs go on with the newest code."""
    max: Annotated[int, Field(strict=True, ge=1, le=MAX_REVISIONS)] = 10
    """How many revisions may hold runs at once; a further one is refused until the runs of an old one have ended."""
