"""When a store that takes its time to fail is tried again."""

from stepwell_operator.trials import Trials


def test_what_fails_slowly_is_left_alone_for_longer_each_time() -> None:
    """Five seconds, then twice as long each time, up to a minute; from the end of the trial on."""
    trials, now, pauses = Trials[str](), 0.0, list[float]()
    for _ in range(6):
        trials.failed("a", now, now + 5)
        began = now = now + 5
        while trials.paused("a", now):
            now += 1
        pauses.append(now - began)
    assert pauses == [5, 10, 20, 40, 60, 60]
    assert not trials.paused("b", 0)


def test_what_fails_at_once_is_not_left_alone() -> None:
    """A quick failure costs nothing, so it is no reason to wait, and neither is a success; the next slow one begins anew."""
    trials = Trials[str]()
    for end in (lambda: trials.failed("a", 20, 20.5), lambda: trials.over("a")):
        trials.failed("a", 0, 5)
        trials.failed("a", 10, 15)
        assert trials.paused("a", 24)
        end()
        assert not trials.paused("a", 16)
        trials.failed("a", 30, 35)
        assert trials.paused("a", 39)
        assert not trials.paused("a", 41)
        trials.over("a")
