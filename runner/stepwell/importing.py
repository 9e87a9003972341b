"""User modules: imported fresh, dropped again, and every failure told by file and line."""

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
NOT_USERS = (Path(__file__).parent, Path(sysconfig.get_path("stdlib")))
SKIPPED_STEMS = ("conftest", "setup", "__main__")


@dataclass(frozen=True, slots=True)
class Source:
    """One module to import: its dotted name, the folder that must be on the path for that, and its file."""

    name: str
    root: Path
    file: Path


@dataclass(frozen=True, slots=True)
class LoadError:
    """What is wrong with something that was to be loaded, and where."""

    where: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        place = self.where if self.line is None else f"{self.where}:{self.line}"
        return f"{place}: {self.message}"


class LoadFailed(Exception):  # carries a LoadError from where it is found to where it is gathered
    """Something could not be loaded."""

    def __init__(self, error: LoadError) -> None:
        super().__init__(str(error))
        self.error = error


def sources_of(path: Path) -> list[Source]:
    """The modules of a .py file, a package (all of it), or a folder (its .py files and its packages; tests are left out)."""
    if path.is_file():
        return [_source(path)]
    if (path / "__init__.py").is_file():
        return [_source(file) for file in sorted(path.rglob("*.py")) if _is_wanted(file, path)]
    files = [file for file in sorted(path.glob("*.py")) if _is_wanted(file, path)]
    packages = [folder for folder in sorted(path.iterdir()) if (folder / "__init__.py").is_file() and not _is_hidden(folder.name)]
    return [_source(file) for file in files] + [source for package in packages for source in sources_of(package)]


def import_source(source: Source) -> ModuleType:
    """Import it under its name; LoadFailed tells file and line of what went wrong in it."""
    module = _import(source.name, source.root, str(source.file))
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != source.file.resolve():
        message = f"the name {source.name!r} already belongs to {found or 'a built-in module'}; rename the file"
        raise LoadFailed(LoadError(str(source.file), message))
    return module


def import_name(name: str, roots: Sequence[Path], where: str) -> ModuleType:
    """Import a module by its dotted name, looked for in these folders first; `where` names who asks for it."""
    for root in roots:
        _put_on_path(root)
    return _import(name, None, where)


def run_code(code: str, name: str, shown: str) -> ModuleType:
    """Execute a manifest's inline code as a module of its own; `shown` stands for its file in messages."""
    module = ModuleType(name)
    module.__file__ = shown
    try:
        compiled = compile(code, shown, "exec", dont_inherit=True)
        sys.modules[name] = module
        exec(compiled, module.__dict__)  # noqa: S102  # the user's own code, in the user's own runner
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the user's code raises is told
        sys.modules.pop(name, None)
        raise LoadFailed(describe(error, shown)) from None
    return module


@contextmanager
def fresh(roots: Sequence[Path]) -> Generator[list[LoadError]]:
    """Forget every module that came from these folders, so that imports inside read the files anew.

    The block fills the list of errors; if there are any at its end, the modules are put back as they were.
    """
    before = {name: module for name, module in sys.modules.items() if _comes_from(module, roots)}
    for name in before:
        del sys.modules[name]
    importlib.invalidate_caches()
    # A file that changes twice within a second and keeps its size would else be read from its stale byte code.
    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    errors: list[LoadError] = []
    try:
        yield errors
    finally:
        sys.dont_write_bytecode = wrote
        if errors and before:
            for name in [name for name, module in sys.modules.items() if _comes_from(module, roots)]:
                del sys.modules[name]
            sys.modules.update(before)


def describe(error: BaseException, where: str) -> LoadError:
    """An import's failure as one line: the innermost place in the user's own files, the kind of error and what it says."""
    if isinstance(error, SyntaxError) and error.filename:
        return LoadError(error.filename, f"SyntaxError: {error.msg}", error.lineno)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    said = "it calls sys.exit() when imported" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
    if frames:
        return LoadError(frames[-1].filename, said, frames[-1].lineno)
    return LoadError(where, said)


def _import(name: str, root: Path | None, where: str) -> ModuleType:
    if root is not None:
        _put_on_path(root)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a user's module raises is told, not passed on
        raise LoadFailed(describe(error, where)) from None


def _source(file: Path) -> Source:
    file = file.resolve()
    parts = [] if file.stem == "__init__" else [file.stem]
    root = file.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return Source(".".join(parts), root, file)


def _put_on_path(root: Path) -> None:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))


def _comes_from(module: ModuleType, roots: Sequence[Path]) -> bool:
    name = getattr(module, "__name__", "")
    if name == "__main__" or name.partition(".")[0] == "stepwell":
        return False
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    path = Path(file)
    return any(path.is_relative_to(root) and not SKIPPED_FOLDERS.intersection(path.relative_to(root).parts) for root in roots)


def _is_wanted(file: Path, top: Path) -> bool:
    *folders, name = file.relative_to(top).parts
    stem = name.removesuffix(".py")
    tests = stem.startswith("test_") or stem.endswith("_test") or stem in SKIPPED_STEMS
    return not tests and not any(_is_hidden(part) or part == "tests" for part in folders) and stem.isidentifier()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED_FOLDERS


def _is_users(filename: str) -> bool:
    if filename.startswith("<frozen"):
        return False
    path = Path(filename)
    return not any(path.is_relative_to(place) for place in NOT_USERS) and not SKIPPED_FOLDERS.intersection(path.parts)
