"""Every live run answers: waiting for what, since when, until when, and what happens next."""

import json
from dataclasses import replace
from typing import Any

import pytest

from stepwell.engine.run import RunStatus
from stepwell.store.records import FOREVER, StepKind, TriggerKind, Wait
from stepwell.store.views import RunRow
from stepwell.why import Around, Paused, Runners, Why, clock_time, span, waiting_for

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 1_763_884_800 * SECOND  # 2025-11-23 08:00:00 UTC


def run(status: RunStatus, **more: Any) -> RunRow:
    given: dict[str, Any] = {
        "run_id": "R1",
        "function_id": "process-order",
        "revision": "r",
        "trigger": TriggerKind.EVENT,
        "status": status,
        "created": NOW - HOUR,
        "started": None,
        "ended": None,
        "event_ids": ("E1",),
        "input": b"[]",
        "value": None,
        "since": NOW - MINUTE,
        "pool": "default",
    }
    return RunRow(**{**given, **more})


def wait(kind: StepKind, due: int, detail: object = None, **more: Any) -> Wait:
    step_id = more.pop("step_id", "s")
    return Wait(kind, step_id, 0, due, NOW - MINUTE, detail=None if detail is None else json.dumps(detail).encode(), **more)


def why(row: RunRow, around: Around | None = None) -> Any:
    found = waiting_for(row, NOW, around or Around())
    assert found is not None
    return found


@pytest.mark.parametrize("status", [status for status in RunStatus if status.is_final])
def test_an_ended_run_waits_for_nothing(status: RunStatus) -> None:
    """A run that has ended isn't waiting for anything."""
    assert waiting_for(run(status, ended=NOW), NOW) is None


@pytest.mark.parametrize("status", [status for status in RunStatus if not status.is_final])
@pytest.mark.parametrize("due", [None, NOW - SECOND, NOW + HOUR, FOREVER])
@pytest.mark.parametrize("waits", [(), (wait(StepKind.SLEEP, NOW + HOUR),), (wait(StepKind.CANCEL, FOREVER),)])
def test_every_live_run_has_an_answer(status: RunStatus, due: int | None, waits: tuple[Wait, ...]) -> None:
    """Whatever a live run's row looks like, there is one line, a past instant since which, and a next thing."""
    found = why(run(status, due=due, waits=waits))
    assert found.sentence
    assert "\n" not in found.sentence
    assert found.since <= NOW
    assert found.until is None or found.until < FOREVER
    assert found.next


def test_a_running_run_says_since_when_and_where() -> None:
    """A running run names its runner and how long it has run."""
    found = why(run(RunStatus.RUNNING, since=NOW - 3 * MINUTE, runner_id="RUNNER"))
    assert (found.kind, found.since, found.until) == (Why.RUNNING, NOW - 3 * MINUTE, None)
    assert found.sentence == "running since 07:57 UTC (3 m) on runner RUNNER"


def test_a_sleep_says_until_when() -> None:
    """A sleeping run tells the time at which it goes on and how long that is."""
    until = NOW + 2 * HOUR + 13 * MINUTE
    found = why(run(RunStatus.SLEEPING, due=until, waits=(wait(StepKind.SLEEP, until),)))
    assert (found.kind, found.since, found.until) == (Why.SLEEP, NOW - MINUTE, until)
    assert found.sentence == "sleeping until 10:13 UTC (2 h 13 m)"


def test_a_wait_for_an_event_tells_name_condition_and_timeout() -> None:
    """A run that waits for an event names it as the code does, with its condition and its timeout."""
    detail = {"event": "payment/ok", "if": 'event.data.orderId == "7"'}
    found = why(
        run(RunStatus.WAITING, due=NOW + 3 * DAY, waits=(wait(StepKind.EVENT, NOW + 3 * DAY, detail, name="payment/ok"),))
    )
    assert found.kind is Why.EVENT
    assert found.until == NOW + 3 * DAY
    assert (
        found.sentence
        == 'waiting for payment/ok where event.data.orderId == "7" with event.data.orderId is missing (timeout in 3 d)'
    )


def test_a_wait_for_an_event_shows_the_values_of_its_own_event() -> None:
    """A condition over the run's own event and the one that is awaited shows what the run's own event holds."""
    detail = {"event": "paid", "if": "event.data.orderId == async.data.orderId && event.data.lines[0].sku in async.data.skus"}
    own = json.dumps([{"name": "o", "data": {"orderId": "7", "lines": [{"sku": "a\nb"}]}}]).encode()
    found = why(run(RunStatus.WAITING, input=own, waits=(wait(StepKind.EVENT, NOW + HOUR, detail, name="paid"),)))
    assert found.sentence == (
        f'waiting for paid where {detail["if"]} with event.data.orderId = "7", event.data.lines[0].sku = "a\\nb" (timeout in 1 h)'
    )


def test_a_wait_for_an_event_without_condition_or_end() -> None:
    """Without a condition and without a timeout neither is mentioned."""
    found = why(run(RunStatus.WAITING, waits=(wait(StepKind.EVENT, FOREVER, {"event": "a", "if": None}),)))
    assert (found.sentence, found.until) == ("waiting for a", None)


def test_a_wait_for_a_signal_names_it() -> None:
    """A run that waits for a signal names it."""
    found = why(run(RunStatus.WAITING, waits=(wait(StepKind.SIGNAL, NOW + HOUR, {"signal": "order-7"}),)))
    assert (found.kind, found.sentence) == (Why.SIGNAL, "waiting for signal order-7 (timeout in 1 h)")


def test_a_wait_for_an_invoked_run_names_run_and_function() -> None:
    """A run that waits for one it invoked names that run and its function."""
    found = why(run(RunStatus.WAITING, waits=(wait(StepKind.INVOKE, FOREVER, {"function": "report"}, target_run="R9"),)))
    assert (found.kind, found.sentence) == (Why.RUN, "waiting for run R9 of report")


def test_a_retried_step_tells_attempt_and_error() -> None:
    """A step that is to be tried again tells which attempt comes when, and why."""
    error = {"name": "TimeoutError", "message": "no answer", "attempts": 2}
    waits = (wait(StepKind.RUN, NOW + 40 * SECOND, error, attempt=2, step_id="charge"),)
    found = why(run(RunStatus.QUEUED, due=NOW + 40 * SECOND, waits=waits))
    assert (found.kind, found.until) == (Why.RETRY, NOW + 40 * SECOND)
    assert found.sentence == "retrying step charge in 40 s (attempt 3/5): TimeoutError: no answer"


def test_a_retry_of_the_code_between_steps() -> None:
    """The code between steps is retried too, and says so."""
    found = why(run(RunStatus.QUEUED, due=NOW + MINUTE, attempt=1), Around(tries=3))
    assert (found.kind, found.sentence) == (Why.RETRY, "retrying the code between steps in 1 m (attempt 2/3)")
    told = why(run(RunStatus.QUEUED, due=NOW + MINUTE, attempt=1), Around(error=b'{"name":"KeyError","message":"x"}'))
    assert told.sentence == "retrying the code between steps in 1 m (attempt 2/5): KeyError: x"


def test_a_run_of_the_future_is_scheduled() -> None:
    """A run whose event lies in the future is queued until then."""
    found = why(run(RunStatus.QUEUED, due=NOW + DAY))
    assert (found.kind, found.until) == (Why.SCHEDULED, NOW + DAY)
    assert found.sentence == "queued until 2025-11-24 08:00 UTC (in 1 d)"


@pytest.mark.parametrize(
    ("runners", "words"),
    [
        (Runners(), "none is alive for pool 'shop' and function 'process-order'"),
        (Runners(alive=2, broken="a.py:1: x"), "pool 'shop' can't load function 'process-order': a.py:1: x"),
        (Runners(alive=2), "2 runners of pool 'shop' alive, but none has function 'process-order'"),
        (Runners(alive=1, knowing=1), "every runner of pool 'shop' that has function 'process-order' is shutting down"),
    ],
)
def test_a_due_run_without_a_runner_says_so(runners: Runners, words: str) -> None:
    """A due run that no live runner would take says why there is none, which pool it needs, and where the pods' reasons are."""
    found = why(run(RunStatus.QUEUED, due=NOW - 5 * SECOND, pool="shop"), Around(runners=runners, owner="dfn/orders"))
    assert (found.kind, found.since) == (Why.NO_RUNNER, NOW - 5 * SECOND)
    assert found.sentence == f"no runner: {words}; due since 07:59:55 UTC (5 s)"
    assert ("'shop'" in found.next and "kubectl describe dfn orders" in found.next) or runners.broken
    local = why(run(RunStatus.QUEUED, due=NOW - 5 * SECOND, pool="shop"), Around(runners=runners, owner="default"))
    assert "kubectl" not in local.next


def test_full_slots_are_counted() -> None:
    """A due run that waits for a slot says how many there are, where all are taken."""
    full = Runners(alive=1, knowing=1, taking=1, slots=4, busy=4)
    found = why(run(RunStatus.QUEUED, due=NOW - 5 * SECOND), Around(runners=full))
    assert (found.kind, found.sentence) == (Why.DUE, "due since 07:59:55 UTC (5 s), waiting for a free runner slot: 4/4 in use")


def test_a_run_whose_runner_died_says_so() -> None:
    """A run held under a lease that is over isn't called running: it is taken over, or there is nobody to do that."""
    row = run(RunStatus.RUNNING, runner_id="RUNNER")
    found = why(row, Around(orphaned=True, runners=Runners(1, 1, 1)))
    assert (found.kind, found.sentence) == (
        Why.DUE, "its runner RUNNER died: its lease is over; the run began there at 07:59 UTC; another one takes it over",
    )  # fmt: skip
    alone = why(row, Around(orphaned=True, runners=Runners()))
    assert alone.kind is Why.NO_RUNNER
    assert alone.sentence.startswith("no runner: none is alive")
    assert "its runner RUNNER died" in alone.sentence


def test_a_run_whose_code_is_nowhere_says_so() -> None:
    """A run that was claimed and given back, no try spent, lacks its code: pool, revision and the next time are told."""
    found = why(run(RunStatus.QUEUED, started=NOW - MINUTE, due=NOW + 10 * SECOND, pool="shop", revision="r2"))
    assert (found.kind, found.until) == (Why.NO_RUNNER, NOW + 10 * SECOND)
    assert "pool 'shop' can't load revision r2 of function 'process-order'" in found.sentence
    assert "log" in found.next
    told = why(
        run(RunStatus.QUEUED, started=NOW - MINUTE, due=NOW + 10 * SECOND, pool="shop", revision="r2"),
        Around(runners=Runners(1, 1, 1, broken="shop.py:3: no module named 'tax'")),
    )
    assert "function 'process-order': shop.py:3: no module named 'tax'; it is asked again at 08:00:10 UTC" in told.sentence


def test_a_paused_function_holds_its_new_runs() -> None:
    """A run that has not begun says who paused its function, and since when; one that has begun goes on."""
    paused = Around(paused=Paused("ada", NOW - 2 * HOUR))
    found = why(run(RunStatus.QUEUED, due=NOW), paused)
    assert (found.kind, found.sentence, found.since) == (Why.PAUSED, "paused by ada since 06:00 UTC", NOW - 2 * HOUR)
    begun = run(RunStatus.SLEEPING, started=NOW - HOUR, due=NOW + HOUR, waits=(wait(StepKind.SLEEP, NOW + HOUR),))
    assert why(begun, paused).kind is Why.SLEEP


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.SLEEPING, RunStatus.WAITING])
@pytest.mark.parametrize("runners", [None, Runners(1, 1, 1, 500, 3), Runners(3, 2, 1)])
def test_a_due_run_with_runners_waits_for_a_slot(status: RunStatus, runners: Runners | None) -> None:
    """A due run that runners could take waits for a free slot, whatever it did before."""
    found = why(run(status, due=NOW - 5 * SECOND, waits=(wait(StepKind.SLEEP, NOW - 5 * SECOND),)), Around(runners=runners))
    assert found.kind is Why.DUE
    assert "(5 s)" in found.sentence


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("process-order", "the function's concurrency limit"),
        ("", "the namespace's concurrency limit"),
        ('process-order:"user-7"', "concurrency key user-7"),
        ("process-order:null", "concurrency key null"),
        (':"eu"', "concurrency key eu (of the namespace)"),
        ('process-order:"a:b"', "concurrency key a:b"),
    ],
)
def test_a_blocked_run_names_key_and_holders(key: str, name: str) -> None:
    """A run that a concurrency limit holds back names the limit, its use, and the runs that use it."""
    found = why(run(RunStatus.QUEUED, due=FOREVER, blocked_on=key), Around(holders=("A", "B"), limit=2))
    assert (found.kind, found.until) == (Why.LIMIT, None)
    assert found.sentence == f"blocked by {name}: 2/2 in use by run A, run B"


def test_many_holders_are_cut() -> None:
    """Of many holders five are named and the others counted."""
    found = why(run(RunStatus.QUEUED, blocked_on="process-order"), Around(holders=tuple("ABCDEFG"), limit=7))
    assert found.sentence.endswith("run D, run E and 2 more")


def test_several_waits_are_told_together() -> None:
    """Parallel branches are told together; the first that ends by itself is the until."""
    waits = (
        wait(StepKind.EVENT, NOW + DAY, {"event": "a"}, step_id="paid"),
        wait(StepKind.SLEEP, NOW + HOUR, step_id="nap"),
        wait(StepKind.RUN, NOW + MINUTE, {"name": "E", "message": "m"}, step_id="charge", attempt=1),
        wait(StepKind.SIGNAL, FOREVER, {"signal": "x"}, step_id="hear"),
        wait(StepKind.CANCEL, NOW + SECOND),
    )
    found = why(run(RunStatus.WAITING, due=NOW + MINUTE, waits=waits))
    assert (found.kind, found.until) == (Why.SEVERAL, NOW + MINUTE)
    assert found.sentence == (
        "waiting for 4 things at once: retrying step charge in 1 m (attempt 2/5): E: m; "
        "nap sleeping until 09:00 UTC (1 h); paid waiting for a (timeout in 1 d); and 1 more"
    )


@pytest.mark.parametrize("detail", [b"", b"[]", b"{", b"\xff", b'{"error": 7}', b'{"name": 7}', b'{"event": 7, "if": 7}'])
@pytest.mark.parametrize("kind", [StepKind.RUN, StepKind.EVENT, StepKind.SIGNAL, StepKind.INVOKE, StepKind.SLEEP])
def test_an_odd_detail_breaks_nothing(detail: bytes, kind: StepKind) -> None:
    """A detail that another version wrote differently still gives a sentence."""
    odd = replace(wait(kind, NOW + HOUR), detail=detail)
    assert why(run(RunStatus.WAITING, due=NOW + HOUR, waits=(odd,))).sentence


def test_control_characters_and_length_are_tamed() -> None:
    """An error's text can neither break the line nor fill the screen."""
    error = {"name": "E", "message": "a\x1b[31m\nb" + "x" * 5000}
    found = why(run(RunStatus.QUEUED, due=NOW + SECOND, waits=(wait(StepKind.RUN, NOW + SECOND, error, attempt=1),)))
    assert "\x1b" not in found.sentence
    assert "\n" not in found.sentence
    assert len(found.sentence) < 300


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (999, "0 s"),
        (250_000, "250 ms"),
        (SECOND, "1 s"),
        (61 * SECOND, "1 m 1 s"),
        (HOUR, "1 h"),
        (HOUR + SECOND, "1 h"),
        (2 * HOUR + 13 * MINUTE + 5 * SECOND, "2 h 13 m"),
        (3 * DAY + 4 * HOUR, "3 d 4 h"),
        (400 * DAY, "400 d"),
    ],
)
def test_spans_read_well(length: int, text: str) -> None:
    """A length of time is its two largest units."""
    assert span(length) == text


def test_clock_times_carry_the_date_on_another_day() -> None:
    """A time on another day has its date, one on a full minute no seconds."""
    assert clock_time(NOW + 5 * SECOND, NOW) == "08:00:05 UTC"
    assert clock_time(NOW + DAY, NOW) == "2025-11-24 08:00 UTC"
