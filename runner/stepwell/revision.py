"""The revision of a function: a hash of what it is configured as and of the code beside it."""

import hashlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

from stepwell.decorator import Function


def revision_of(function: Function[Any, Any]) -> str:
    """Eight hex digits that change when the spec or the source file changes."""
    handler = inspect.unwrap(function.handler)
    source = _source(inspect.getsourcefile(handler) or "", handler.__code__.co_code)
    return hashlib.sha256(function.spec.to_json() + source).hexdigest()[:8]


@cache
def _read(path: str, changed: int) -> bytes:
    del changed
    return Path(path).read_bytes()


def _source(path: str, code: bytes) -> bytes:
    file = Path(path)
    return _read(path, file.stat().st_mtime_ns) if path and file.is_file() else code
