"""From paths to functions: Python files, packages and manifests, all at once.

User code is imported here alone, in `dev` and in runners.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from stepwell.decorator import Function
from stepwell.errors import SpecError
from stepwell.importing import LoadError, LoadFailed, Source, fresh, import_name, import_source, run_code, sources_of
from stepwell.spec.function import FunctionSpec, failure_spec
from stepwell.spec.manifest import KIND, Manifest, parse_manifests
from stepwell.spec.source import ConfigMapSource, ImageSource, InlineSource

YAML = frozenset({".yaml", ".yml"})
INLINE_PREFIX = "stepwell_inline_"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found. `errors` are what is wrong; `notes` tell where a decorator says something else than its manifest."""

    functions: tuple[Function[Any, Any], ...] = ()
    manifests: tuple[Manifest, ...] = ()
    errors: tuple[LoadError, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the given paths come to, before anything is imported."""

    sources: tuple[Source, ...]
    names: tuple[str, ...]
    manifests: tuple[tuple[Manifest, Path], ...]
    errors: tuple[LoadError, ...]

    @property
    def roots(self) -> list[Path]:
        """The folders that modules are imported from."""
        found = [*(source.root for source in self.sources), *(file.parent for _, file in self.manifests)]
        return list(dict.fromkeys(found))


@dataclass(slots=True)
class Found:
    """Functions by id, each with the place it was found at."""

    functions: dict[str, tuple[Function[Any, Any], str]] = field(default_factory=dict[str, "tuple[Function[Any, Any], str]"])
    errors: list[LoadError] = field(default_factory=list[LoadError])
    notes: list[str] = field(default_factory=list[str])


def load(paths: Sequence[str]) -> Loaded:
    """Import everything at these paths anew and say what is there; nothing is raised, `errors` tells what is wrong and where.

    A path is a .py file, a package, a folder of .py files and packages, a manifest, or `module:function`. Modules that came from
    there before are dropped first; if anything is wrong they are put back, so that code in use goes on as it was.
    """
    wanted = _look(paths)
    found = Found(errors=list(wanted.errors))
    with fresh(wanted.roots) as errors:
        for source in wanted.sources:
            _gather(found, lambda source=source: _scan(found, import_source(source)))
        for name in wanted.names:
            _gather(found, lambda name=name: _scan_name(found, name))
        for manifest, file in wanted.manifests:
            _gather(found, lambda manifest=manifest, file=file: _apply(found, manifest, file, wanted.roots))
        errors.extend(found.errors)
    return Loaded(
        functions=tuple(function for function, _ in found.functions.values()),
        manifests=tuple(manifest for manifest, _ in wanted.manifests),
        errors=tuple(found.errors),
        notes=tuple(found.notes),
    )


def place_of(function: Function[Any, Any]) -> str:
    """Where a function's handler is written: file and line."""
    code = getattr(function.handler, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(function.handler)


def module_of(file: Path, name: str) -> ModuleType:
    """A file as a module of this name, whatever the file is called; LoadFailed tells file and line of what went wrong in it."""
    try:
        code = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadFailed(LoadError(str(file), f"can't be read: {getattr(error, 'strerror', None) or error}")) from None
    return run_code(code, name, str(file))


def handler_in(module: ModuleType | None, handler: str, where: str) -> Any:
    """The handler: a name in a module, or without one `module:function`, importable from here. LoadFailed says what is wrong."""
    name, separator, attribute = handler.partition(":")
    if module is not None:
        return _attribute(module, attribute if separator else name, where)
    if not separator or not all(part.isidentifier() for part in name.split(".")):
        raise LoadFailed(LoadError(where, f"a handler is module:function, such as shop.orders:process_order, not {handler!r}"))
    return _attribute(import_name(name, [Path.cwd()], where), attribute, where)


def function_of(spec: FunctionSpec, target: Any) -> Function[Any, Any]:
    """A function with this spec and this handler's code, models and types; a decorator's own spec doesn't count."""
    return replace(_as_function(spec, target), on_failure=None)


def differences(spec: FunctionSpec, target: Any, holder: str) -> list[str]:
    """Where the decorator of a handler says something else than the spec that `holder` has, which is the one that counts."""
    if not isinstance(target, Function):
        return []
    decorated = cast("Function[Any, Any]", target)
    says = decorated.spec.model_dump(by_alias=True, mode="json")
    holds = spec.model_dump(by_alias=True, mode="json")
    ignored = {"onFailure"} if decorated.on_failure is not None else set[str]()
    return [
        f"{place_of(decorated)}: {name} is {says.get(name)!r}, but {holder} says {holds[name]!r}; the manifest holds"
        for name in sorted(holds)
        if name not in ignored and says.get(name) != holds[name]
    ]


# --- before anything is imported ---


def _look(paths: Sequence[str]) -> Wanted:
    sources: list[Source] = []
    names: list[str] = []
    manifests: list[tuple[Manifest, Path]] = []
    errors: list[LoadError] = []
    for given in paths:
        path = Path(given)
        if not path.exists() and _is_name(given):
            names.append(given)
        elif not path.exists():
            errors.append(LoadError(given, "there is no such file or folder"))
        elif path.suffix in YAML:
            _read_manifests(path, manifests, errors)
        elif path.is_file() and path.suffix != ".py":
            errors.append(LoadError(given, "is neither a .py file, a folder nor a manifest (.yaml)"))
        else:
            _look_into(path, sources, manifests, errors)
    unique = {source.file: source for source in sources}
    return Wanted(tuple(unique.values()), tuple(names), tuple(manifests), tuple(errors))


def _look_into(path: Path, sources: list[Source], manifests: list[tuple[Manifest, Path]], errors: list[LoadError]) -> None:
    found = sources_of(path)
    yamls = [file for file in sorted(path.iterdir()) if file.suffix in YAML and _is_ours(file)] if path.is_dir() else []
    if not found and not yamls:
        errors.append(LoadError(str(path), f"holds no .py file, no package and no {KIND} manifest"))
    sources.extend(found)
    for file in yamls:
        _read_manifests(file, manifests, errors)


def _read_manifests(file: Path, manifests: list[tuple[Manifest, Path]], errors: list[LoadError]) -> None:
    try:
        manifests.extend((manifest, file.resolve()) for manifest in parse_manifests(file.read_bytes(), str(file)))
    except SpecError as error:
        errors.append(LoadError(error.path or str(file), error.message))
    except OSError as error:
        errors.append(LoadError(str(file), f"can't be read: {error.strerror}"))


def _is_ours(file: Path) -> bool:
    """A folder may hold other YAML; only files that speak of durable functions are read."""
    try:
        return KIND.encode() in file.read_bytes()
    except OSError:
        return True


def _is_name(given: str) -> bool:
    module, _, attribute = given.partition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    return dotted and (attribute.isidentifier() if ":" in given else Path(given).suffix not in {".py", *YAML})


# --- modules ---


def _gather(found: Found, step: Any) -> None:
    try:
        step()
    except LoadFailed as failed:
        found.errors.append(failed.error)


def _scan(found: Found, module: ModuleType) -> None:
    for value in list(vars(module).values()):
        if isinstance(value, Function):
            _add(found, cast("Function[Any, Any]", value))


def _scan_name(found: Found, given: str) -> None:
    module_name, separator, attribute = given.partition(":")
    module = import_name(module_name, [Path.cwd()], given)
    if not separator:
        _scan(found, module)
        return
    value = getattr(module, attribute, None)
    if not isinstance(value, Function):
        raise LoadFailed(LoadError(given, f"{attribute!r} is no durable function: decorate it with @stepwell.function(id=…)"))
    _add(found, cast("Function[Any, Any]", value))


def _add(found: Found, function: Function[Any, Any]) -> None:
    for one in (function, function.on_failure):
        if one is None:
            continue
        known = next((other for other in _all(found) if other.id == one.id), None)
        if known is one:
            continue
        if known is not None:
            raise LoadFailed(
                LoadError(place_of(one), f"the id {one.id!r} is taken by {place_of(known)}; ids are unique, so change one")
            )
    found.functions.setdefault(function.id, (function, place_of(function)))


def _all(found: Found) -> list[Function[Any, Any]]:
    functions = [function for function, _ in found.functions.values()]
    return functions + [function.on_failure for function in functions if function.on_failure is not None]


# --- manifests ---


def _apply(found: Found, manifest: Manifest, file: Path, roots: Sequence[Path]) -> None:
    """Give a manifest its code. The manifest is the truth: where a decorator says something else that is noted and dropped."""
    if manifest.suspend:
        found.notes.append(f"{file}: {manifest.name} is suspended; it is not served")
        found.functions.pop(manifest.spec.id, None)
        return
    module, handler = _code(manifest, file, roots)
    target = _attribute(module, handler, f"{file}: {manifest.name}")
    made = _as_function(manifest.spec, target)
    if made.on_failure is None and manifest.spec.on_failure is not None:
        cleanup = _attribute(module, manifest.spec.on_failure, f"{file}: {manifest.name}: onFailure")
        made = replace(made, on_failure=_failure_function(manifest.spec, cleanup))
    decorated = found.functions.get(manifest.spec.id)
    if decorated is not None:
        function, place = decorated
        if place != place_of(made):
            message = f"{manifest.spec.id!r} is also a function at {place}, which is not this manifest's handler; change one id"
            raise LoadFailed(LoadError(str(file), message))
        del found.functions[manifest.spec.id]
        target = function
    found.notes.extend(differences(manifest.spec, target, str(file)))
    _add(found, made)


def _code(manifest: Manifest, file: Path, roots: Sequence[Path]) -> tuple[ModuleType, str]:
    match manifest.source:
        case InlineSource(code=code, handler=handler):
            name = INLINE_PREFIX + "".join(letter if letter.isalnum() else "_" for letter in manifest.name)
            return run_code(code, name, f"{file}#{manifest.name}"), handler
        case ImageSource(handler=handler):
            module, _, attribute = handler.partition(":")
            return import_name(module, [file.parent, *roots, Path.cwd()], f"{file}: {manifest.name}"), attribute
        case ConfigMapSource(key=key, handler=handler):
            path = file.parent / Path(key).name
            if not path.is_file():
                raise LoadFailed(
                    LoadError(str(file), f"{manifest.name}: its code, {key}, should lie beside the manifest to be run here")
                )
            (source,) = sources_of(path)
            return import_source(source), handler


def _attribute(module: ModuleType, name: str, where: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if not callable(value):
        there = (
            ", ".join(sorted(key for key, one in vars(module).items() if callable(one) and not key.startswith("_"))[:8])
            or "nothing"
        )
        raise LoadFailed(LoadError(where, f"there is no function {name!r} in {module.__name__}; it has {there}"))
    return value


def _as_function(spec: FunctionSpec, target: Any) -> Function[Any, Any]:
    if isinstance(target, Function):
        decorated = cast("Function[Any, Any]", target)
        return replace(decorated, spec=spec, on_failure=decorated.on_failure if decorated.id == spec.id else None)
    return Function(spec, target)


def _failure_function(spec: FunctionSpec, target: Any) -> Function[Any, Any] | None:
    cleanup = failure_spec(spec)
    return None if cleanup is None else _as_function(cleanup, target)
