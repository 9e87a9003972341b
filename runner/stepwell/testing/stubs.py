"""Stubs and planned failures of single steps, for tests."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from stepwell.context import Context
from stepwell.decorator import Function
from stepwell.step import Step


@dataclass(slots=True)
class Failing:
    """Tries of a step that are still to fail."""

    left: int
    error: BaseException


class Stubs:
    """What a test wants steps to do instead of what they would do."""

    def __init__(self) -> None:
        self._stubs: dict[Any, tuple[Any, BaseException | None]] = {}
        self._failing: dict[str, Failing] = {}
        self._planned: dict[str, tuple[int, BaseException]] = {}

    def stub(self, fn: Callable[..., Any], returns: Any, raises: BaseException | None) -> None:
        """Replace a function in steps."""
        self._stubs[fn] = (returns, raises)

    def fail(self, step_id: str, times: int, error: BaseException) -> None:
        """Let the first tries of a step fail."""
        self._failing[step_id] = Failing(times, error)
        self._planned[step_id] = (times, error)

    def fresh(self) -> "Stubs":
        """The same plans, from the beginning."""
        other = Stubs()
        other._stubs = dict(self._stubs)
        for step_id, (times, error) in self._planned.items():
            other.fail(step_id, times, error)
        return other

    def wrap(self, function: Function[Any, Any]) -> Function[Any, Any]:
        """The function with its steps under this control."""

        async def handler(ctx: Context[Any]) -> Any:
            return await function.handler(replace(ctx, step=_StubbedStep(ctx.step, self)))

        handler.__annotations__ = {"return": function.returns}
        wrapped = Function(function.spec, handler, function.models, function.on_failure)
        wrapped.__dict__["returns"] = function.returns
        return wrapped

    def body(self, step_id: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What a step calls in a test: the function, its stub, or a planned failure first."""
        stub = self._stubs.get(fn)
        failing = self._failing.get(step_id)
        if stub is None and failing is None:
            return fn

        async def instead(*args: Any, **kwargs: Any) -> Any:
            if failing is not None and failing.left:
                failing.left -= 1
                raise failing.error
            if stub is not None:
                returns, raises = stub
                if raises is not None:
                    raise raises
                return returns
            value = fn(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        instead.__annotations__ = dict(getattr(fn, "__annotations__", {}))
        instead.__wrapped__ = fn  # type: ignore[attr-defined]
        return instead


class _StubbedStep(Step):
    """`ctx.step` in a test."""

    __slots__ = ("_stubs",)

    def __init__(self, step: Step, stubs: Stubs) -> None:
        super().__init__(step._pass)  # noqa: SLF001 - the same step under control
        self._stubs = stubs

    async def run(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await cast("Any", super().run)(id, self._stubs.body(id, fn), *args, **kwargs)
