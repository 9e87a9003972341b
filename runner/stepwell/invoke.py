"""The one seam to user code: a function in this process becomes something that an execution can call.

Functions behind HTTP, in other languages, will be another `Code` with the same promise: called with a pass, it answers with the
output's JSON, or raises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson
from pydantic import ValidationError

from stepwell import log, values
from stepwell.context import Context
from stepwell.decorator import Function
from stepwell.engine import trace
from stepwell.engine.passes import Pass
from stepwell.errors import NonRetriableError
from stepwell.event import Event, event_of
from stepwell.spec.function import FunctionSpec
from stepwell.step import Step


@dataclass(frozen=True, slots=True)
class LocalCode:
    """A Python function of this process."""

    function: Function[Any, Any]

    @property
    def spec(self) -> FunctionSpec:
        """What the function is configured as."""
        return self.function.spec

    async def __call__(self, passing: Pass) -> bytes:
        """Run the handler once from the top and encode what it returns."""
        execution = passing.execution
        scope = _scope(passing, self.function.id)
        log.current.set(scope)
        events = [self._event(document) for document in _documents(execution.claimed.input)]
        ctx = Context(
            event=events[0],
            events=events,
            run_id=execution.run_id,
            function_id=self.function.id,
            max_attempts=self.spec.retries + 1,
            logger=log.RunLogger(scope),
            step=Step(passing),
        )
        output = await self._between_steps(passing, ctx)
        data = values.encode(output, "output", self.function.returns)
        values.check_size(f"output of run {execution.run_id}", len(data), values.MAX_STEP_RESULT)
        return data

    async def _between_steps(self, passing: Pass, ctx: Context[Any]) -> Any:
        """Call the handler; while traces are on, spans of its own lie under the execution that it began in."""
        execution = passing.execution
        if execution.deps.tracer is None:
            return await self.function.handler(ctx)
        with execution.deps.tracer.inside(trace.execution_place(execution.run_id, execution.epoch)):
            return await self.function.handler(ctx)

    def _event(self, document: dict[str, Any]) -> Event[Any]:
        adapter = self.function.adapters.get(document["name"])
        if adapter is None:
            return event_of(document, document["data"])
        try:
            return event_of(document, adapter.validate_python(document["data"]))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            path = ".".join(str(part) for part in ("event.data", *first["loc"]))
            raise NonRetriableError(f"{path}: {first['msg']} (event {document['name']!r} does not fit its model)") from None


def _scope(passing: Pass, function_id: str) -> log.Scope:
    """Whose code runs between steps. Attempt, epoch and span are asked for each line: a warm run goes on in another execution."""
    execution = passing.execution
    place: Callable[[], tuple[str, str]] | None = None
    if execution.deps.tracer is not None:
        place = lambda: trace.execution_place(execution.run_id, execution.epoch).in_hex()  # noqa: E731
    return log.Scope(
        execution.run_id, function_id, None, lambda: passing.attempt, passing.replaying, lambda: execution.epoch, place
    )


def _documents(data: bytes) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", orjson.loads(data))
