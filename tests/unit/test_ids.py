"""Ids: ULIDs that sort by time, run ids made from function and event, event ids that people may choose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import SpecError
from stepwell.ids import Ids, check_event_id, encode_ulid, is_id, ms_of, run_id

MS = st.integers(0, 2**48 - 1)
CHANCE = st.integers(0, 2**80 - 1)


@given(MS, CHANCE, MS, CHANCE)
def test_ulids_sort_as_their_time_and_chance(ms: int, chance: int, later: int, other: int) -> None:
    """A ULID has 26 characters, carries its time, and sorts by time first, then by chance."""
    one, two = encode_ulid(ms, chance), encode_ulid(later, other)
    assert len(one) == 26
    assert ms_of(one) == ms
    assert (one < two) == ((ms, chance) < (later, other))


def test_the_wire_form_is_the_published_one() -> None:
    """The known corners of the ULID specification are written as it says."""
    assert encode_ulid(0, 0) == "0" * 26
    assert encode_ulid(2**48 - 1, 2**80 - 1) == "7" + "Z" * 25
    assert encode_ulid(1469918176385, 0)[:10] == "01ARYZ6S41"
    assert ms_of("01ARZ3NDEKTSV4RRFFQ69G5FAV") == 1469922850259


@pytest.mark.parametrize(("ms", "chance"), [(-1, 0), (2**48, 0), (0, -1), (0, 2**80)])
def test_what_does_not_fit_is_refused(ms: int, chance: int) -> None:
    """An instant in µs, say, would not sort: it is an error, not a wrapped id."""
    with pytest.raises(ValueError, match="don't fit into a ULID"):
        encode_ulid(ms, chance)


@pytest.mark.parametrize("text", ["", "0" * 25, "0" * 27, "8" + "0" * 25, "0" * 25 + "U", "0" * 25 + "i", "é" * 26])
def test_what_is_no_ulid_has_no_time(text: str) -> None:
    """Other lengths, letters that Crockford left out, lower case and numbers too large are no ULIDs."""
    with pytest.raises(ValueError, match="is no ULID"):
        ms_of(text)


def test_ids_with_one_seed_are_the_same_and_differ_from_each_other() -> None:
    """Injected randomness repeats; within one source, and with the system's, ids differ."""
    one, two, real = Ids(seed=7), Ids(seed=7), Ids()
    first = [one.ulid(1000) for _ in range(100)]
    assert first == [two.ulid(1000) for _ in range(100)]
    assert one.seed() == two.seed()
    assert len({*first, *(real.ulid(1000) for _ in range(100))}) == 200
    assert {ms_of(ulid) for ulid in first} == {1000}


@given(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5))
def test_one_function_and_one_event_have_one_run(function_id: str, event_id: str, other: str) -> None:
    """The run's id depends on function, event and time alone, and moving a letter from one to the other makes another run."""
    try:
        run = run_id(function_id, event_id, 1000)
    except UnicodeEncodeError:
        return
    assert run == run_id(function_id, event_id, 1000)
    assert ms_of(run) == 1000
    assert run[10:] == run_id(function_id, event_id, 2000)[10:]
    assert run != run_id(function_id + event_id[0], event_id[1:], 1000)
    assert other == event_id or not other.isascii() or run != run_id(function_id, other, 1000)


@pytest.mark.parametrize("event_id", ["a", "x" * 128, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "order/7:paid#1", "größe", "日本"])
def test_printable_text_without_spaces_can_be_an_event_id(event_id: str) -> None:
    """People may choose ids of up to 128 printable characters."""
    assert is_id(event_id)
    check_event_id(event_id, "id")


@pytest.mark.parametrize(
    ("event_id", "says"),
    [("", "0 characters"), ("x" * 129, "129 characters"), ("a b", "no spaces"), ("a\n", "printable"), ("a\0", "printable")]
    + [(odd, "printable") for odd in ("a\u00a0b", "\u2028", "\ud800", "\x7f", "\u200b", "\t")],
)
def test_other_text_cannot_be_an_event_id(event_id: str, says: str) -> None:
    """Empty, long, spaced and invisible ids are refused, each with its reason and place."""
    assert not is_id(event_id)
    with pytest.raises(SpecError, match=rf"^events\[0\]\.id: .*{says}"):
        check_event_id(event_id, "events[0].id")
