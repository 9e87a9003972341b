"""The pictures in the docs are of today's boards."""

import pytest
from monitoring.pictured import MAIN, PICTURES, ROOT, board_of, picture_of, told_in, told_of

MEND = "run `make pictures` (three minutes), look at them, and commit docs/pictures"
PAGE = ROOT / "docs" / "how-to" / "monitor.md"


@pytest.mark.parametrize("name", MAIN)
def test_a_picture_shows_the_board_as_it_is(name: str) -> None:
    """Each main board has its picture, and titles, places, units and queries in it are those of the board in the chart."""
    picture = picture_of(name)
    assert picture.exists(), f"{picture} is missing: {MEND}"
    shown, wanted = told_in(picture) or [], told_of(board_of(name))
    changed = {panel["title"] for panel in (*shown, *wanted) if (panel in shown) is not (panel in wanted)}
    assert shown == wanted, (
        f"{picture} shows another board, see {', '.join(sorted(changed)) or 'the order of its panels'}: {MEND}"
    )


@pytest.mark.parametrize("name", MAIN)
def test_the_page_shows_it_in_words_too(name: str) -> None:
    """The page about Prometheus and Grafana shows each picture, and says what is in it to those who don't see it."""
    text = PAGE.read_text(encoding="utf-8")
    place = f"](../pictures/{name}.png)"
    assert place in text
    assert len(text.partition(place)[0].rpartition("![")[2]) > 40, f"{PAGE}: the alt text of {name} says nothing"


def test_pictures_are_small_and_all_are_shown() -> None:
    """No picture is larger than 150 KB, and none lies there that nobody draws."""
    assert {path.name: path.stat().st_size for path in PICTURES.iterdir() if path.stat().st_size > 150_000} == {}
    assert {path.stem for path in PICTURES.iterdir()} == set(MAIN)
