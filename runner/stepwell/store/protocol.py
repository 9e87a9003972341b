"""The verbs of a store. Postgres and SQLite keep the same promises; one conformance suite holds them to it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from stepwell.store.access import AuditFilter, AuditRow, KeyRow
from stepwell.store.records import Pile
from stepwell.store.registry import FunctionRow, PauseRow, Registry, RevisionRow, RevisionWork, ScheduleRow
from stepwell.store.results import Journal, PileResult
from stepwell.store.views import EndedBy, ProgressRow, RecordedStep, RunFilter, RunnerRow, RunRow, Stats, StoredEvent, Violation


class Store(Protocol):
    """One well. Every verb is safe to send twice, and raises StoreUnavailable when the store can't be reached or is full."""

    async def open(self) -> None:
        """Connect; raise StoreError if the schema is missing or older than this program needs."""
        ...

    async def close(self) -> None:
        """Let go of every connection; nothing that was promised is lost."""
        ...

    async def migrate(self) -> list[str]:
        """Bring the schema up to date under a lock and return the names of the migrations applied (none: [])."""
        ...

    @property
    def connections(self) -> tuple[int, int, int]:
        """How many connections of this process are in use, how many are idle, and how many callers wait for one."""
        ...

    # --- the one write ---

    async def commit(self, pile: Pile) -> PileResult:
        """Write the pile in one transaction and answer only after it is durable; see `Pile` for what it promises."""
        ...

    # --- leases ---

    async def enrol(self, runner: RunnerRow) -> None:
        """Make the runner's lease row, or renew it whole; `expires` is a length in µs from the store's now."""
        ...

    def beat(self, runner_id: str, lease: int, now: int | None = None, told: str | None = None) -> bool:
        """Renew the lease for `lease` µs, from any thread, blocking, on a connection of its own; False if it is gone.

        `told` (of `telling.told_text`) takes the place of what the row carries of its steps' progress; None leaves that as it is.
        """
        ...

    async def leave(self, runner_id: str, now: int | None = None) -> None:
        """End the runner's lease; runs that it still holds become claimable at once, and nothing is counted against them."""
        ...

    async def held(self, runner_id: str) -> list[tuple[str, int]]:
        """The runs (with epoch) leased to this runner, for one that doesn't know whether its claim landed."""
        ...

    async def hand_back(self, runner_id: str, runs: Sequence[tuple[str, int]], now: int | None = None) -> int:
        """Make these of the runner's runs claimable at once, where the epoch is still this; nothing is counted against them."""
        ...

    async def expire_all(self) -> int:
        """End every lease at once: only for a store that this process alone has open (`dev` on SQLite)."""
        ...

    # --- registry ---

    async def registry(self) -> Registry:
        """One whole version of the registry."""
        ...

    async def registry_version(self) -> int:
        """The number of the registry's present version: the cheapest question there is, which a store that answers can answer."""
        ...

    async def register(
        self,
        owner: str,
        functions: Sequence[FunctionRow],
        schedules: Sequence[ScheduleRow],
        revisions: Sequence[RevisionRow] = (),
    ) -> int:
        """Make these the owner's functions and schedules, all others of that owner gone; return the version.

        The version moves only if something changed. A schedule that stays keeps its `last_due` and `next_due`; those of functions
        that aren't active are gone. `revisions` are added or changed; they stay until they are forgotten.
        """
        ...

    async def listen(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Add (event name, path) pairs that waits will listen on; return the version, moved only if one was new."""
        ...

    async def pause(self, pause: PauseRow, now: int | None = None) -> bool:
        """Let no run of a function be claimed from now on; False if it was paused already (by whom it was, it stays).

        Executions under way go on to their end or their next rest. The registry's version moves.
        """
        ...

    async def resume(self, function_id: str, now: int | None = None) -> bool:
        """Let a paused function's runs be claimed again; False if it was not paused. The registry's version moves."""
        ...

    # --- revisions ---

    async def revisions(self, pool: str | None = None) -> list[RevisionRow]:
        """The revisions of one pool, or all, by function and age."""
        ...

    async def work(self, now: int | None = None) -> list[RevisionWork]:
        """What lives, by function, revision and pool: one look at live runs alone; nothing for what has none."""
        ...

    async def forget_revision(self, function_id: str, revision: str) -> bool:
        """Drop a revision that no live run is pinned to and that no active function starts runs with; whether it is gone.

        Runs and functions of `<function_id>-failure` count too. No start can slip in: it is planned with one version of the
        registry, and this moves it.
        """
        ...

    async def move_runs(self, function_id: str, revision: str, pool: str) -> int:
        """Pin the function's live runs, and those of its clean-up function, to another revision; how many were on others.

        A run that executes now ends or parks where it is, and goes on in `pool` from then.
        """
        ...

    async def live_runs(self, function_id: str, limit: int) -> list[str]:
        """Up to `limit` of a function's unfinished runs, oldest first."""
        ...

    # --- resuming ---

    async def journals(self, run_ids: Sequence[str]) -> dict[str, Journal]:
        """The journals of live runs, in one read."""
        ...

    # --- for people ---

    async def run(self, run_id: str) -> RunRow | None:
        """One run with its open waits, or None."""
        ...

    async def runs(self, which: RunFilter) -> list[RunRow]:
        """Runs, newest first (without waits)."""
        ...

    async def steps(self, run_id: str) -> list[RecordedStep]:
        """The run's journal with failed tries, in the order recorded."""
        ...

    async def attempts_between(self, run_id: str) -> RecordedStep | None:
        """Failed tries of the code between steps (their `step` has an empty id), or None."""
        ...

    async def progress(self, run_id: str) -> list[ProgressRow]:
        """What the run's attempts under way told with the last beat of the runner that holds it, by step; none that are over."""
        ...

    async def event(self, event_id: str) -> StoredEvent | None:
        """One accepted event, or None."""
        ...

    async def events(self, name: str | None, before: str | None, limit: int) -> list[StoredEvent]:
        """Events, newest first; `before` is the id of the last one seen."""
        ...

    async def decisions(self, event_id: str) -> list[tuple[str, str, str]]:
        """(function, decision, detail) recorded for an event that did not start a function though its name matched."""
        ...

    async def ended_by(self, event_id: str, limit: int) -> list[EndedBy]:
        """Up to `limit` waits that the event ended and runs that it cancelled, by run; none that another ended first."""
        ...

    async def key_holders(self, key: str) -> list[str]:
        """The runs whose unexpired leases count under a concurrency key."""
        ...

    async def runners(self, now: int | None = None) -> list[RunnerRow]:
        """The runners whose lease holds."""
        ...

    async def ledger(self, schedule_id: str, limit: int) -> list[tuple[int, int, str, str | None]]:
        """(due, outcome, reason, run_id) of a schedule's ticks, newest first."""
        ...

    async def stats(self, now: int | None = None) -> Stats:
        """The live figures, in one look, for `/metrics`."""
        ...

    # --- access ---

    async def keys(self) -> list[KeyRow]:
        """Every key that was given out, revoked ones too, newest first."""
        ...

    async def add_key(self, key: KeyRow, most: int) -> bool:
        """Add a key; False if its name has `most` live ones already."""
        ...

    async def revoke_key(self, key_id: str, by: str, at: int) -> bool:
        """End a live key; False if there is none of this id. One that was revoked stays revoked, by whom it was first."""
        ...

    async def note(self, act: AuditRow) -> None:
        """Add an act to the audit. Nothing changes or removes it for ninety days."""
        ...

    async def audit(self, which: AuditFilter) -> list[AuditRow]:
        """Acts, newest first. Changes of functions are among them: the registration writes those itself."""
        ...

    # --- upkeep ---

    async def retain(self, keep: int, now: int | None = None) -> int:
        """Drop history older than `keep` µs that no live run needs, make room ahead; return partitions (or rows) dropped."""
        ...

    async def doctor(self, now: int | None = None) -> list[Violation]:
        """Run the invariants that rows can show and return the broken ones."""
        ...

    # --- hints ---

    async def hint(self, payload: str) -> None:
        """Tell other processes that there may be news; best effort, never in the write path."""
        ...

    async def on_hint(self, hear: Callable[[str], None]) -> bool:
        """Call `hear` for other processes' hints; False where hints can't be had (SQLite, a pooler): poll."""
        ...
