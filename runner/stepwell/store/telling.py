"""What steps under way tell, as their runner's row carries it: one JSON text that both dialects keep and answer with. Pure."""

import json
from collections.abc import Sequence

import orjson

from stepwell.store.views import ProgressRow

FIELDS = 7


def told_text(words: Sequence[ProgressRow]) -> str:
    """The words as the row carries them: in ASCII alone, without any that a server could refuse to keep or to read again."""
    kept = [_values(one) for one in words if str.isprintable(one.step_id) and str.isprintable(one.note)]
    return json.dumps(kept, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def words_of(text: str | None) -> list[ProgressRow]:
    """The words in what a store answers with, by step; a later program may have added more about each."""
    found = [ProgressRow(*one[:FIELDS]) for one in orjson.loads(text or "[]")]
    return sorted(found, key=lambda one: (one.step_id, one.occurrence))


def _values(one: ProgressRow) -> tuple[str | int | float, ...]:
    return one.run_id, one.step_id, one.occurrence, one.attempt, one.ratio, one.note, one.told
