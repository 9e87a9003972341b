"""What a pool executes: the functions that are registered for it, with their code from one file or from the image.

    registry moved, ten seconds passed, or a run's code is missing ──▶ look ──▶ worker.adopt

The store says which revisions there are and which handler each has; the registry says how functions are configured, for all of
their revisions at once. The code itself never changes within a process: other code is another pool.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import structlog

from stepwell.codes import Codes
from stepwell.engine.registry import KnownRegistry
from stepwell.engine.well import Well
from stepwell.errors import StepwellError, StoreUnavailable
from stepwell.importing import LoadFailed
from stepwell.invoke import LocalCode
from stepwell.loading import differences, function_of, handler_in, module_of
from stepwell.spec.function import FAILURE_SUFFIX, FunctionSpec, failure_spec
from stepwell.store.registry import RevisionRow
from stepwell.worker import Worker

MODULE = "stepwell_pool_code"
PAUSE = 1.0
LOOK_EVERY = 10.0

Key = tuple[str, str]
"""A function's id and its revision."""


class HandlerImportFailed(StepwellError):
    """A registered handler could not be imported; the message has a line for each: the function, then file and line."""

    code = "DF0603"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One function that this process is to execute at one revision."""

    key: Key
    handler: str
    spec: FunctionSpec


class PoolCode:
    """The code of one pool. `file` holds the functions of an inline source or a ConfigMap; without one they are imported."""

    def __init__(self, well: Well, pool: str, file: Path | None = None) -> None:
        self.well = well
        self.pool = pool
        self._file = file
        self._module: ModuleType | None = None
        self._targets: dict[str, Any] = {}
        self._failed: dict[Key, str] = {}
        self._known: dict[Key, LocalCode] = {}
        self._version = -1
        self._asked = asyncio.Event()
        self._log = structlog.get_logger("stepwell.pool")

    async def load(self) -> Codes:
        """The code of all that is registered for the pool; HandlerImportFailed names each handler that can't be imported."""
        if self._file is not None and self._module is None:
            # Even with nothing registered yet: a file that can't be read serves nobody.
            try:
                self._module = module_of(self._file, MODULE)
            except LoadFailed as failed:
                raise HandlerImportFailed(f"{self._file.name}: {failed.error}") from None
        codes = await self._look()
        if self._failed:
            raise HandlerImportFailed(_told(self._failed))
        return codes

    async def follow(self, worker: Worker) -> None:
        """Keep the worker's code in step with what is registered, until cancelled.

        What arrives and can't be imported is told and left out; HandlerImportFailed if nothing is left to execute.
        """
        worker.missing = self._asked.set
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await self._asked.wait()
            if self._asked.is_set() or self.well.registry.version != self._version or loop.time() >= looked + LOOK_EVERY:
                self._asked.clear()
                with suppress(StoreUnavailable):
                    await self.look(worker)
                    looked = loop.time()

    async def look(self, worker: Worker) -> None:
        """Bring the worker up to date, now."""
        before = set(self._failed)
        codes = await self._look()
        failed = {key: said for key, said in self._failed.items() if key not in before}
        for (function_id, revision), said in failed.items():
            self._log.error("a handler can't be imported; its runs wait", function=function_id, revision=revision, error=said)
        if failed and not codes.by_revision:
            raise HandlerImportFailed(_told(failed))
        if codes != worker.codes:
            told = {"functions": codes.functions, "revisions": len(codes.by_revision)}
            self._log.info("the pool's functions changed", pool=self.pool, **told)
            await worker.adopt(codes)

    async def _look(self) -> Codes:
        registry = self.well.registry
        rows = await self.well.store.revisions(self.pool)
        if any(registry.known(row.function_id) is None for row in rows):
            registry = await self.well.refresh()
        self._version = registry.version
        wanted = [one for row in rows for one in _wanted(row, registry)]
        found: dict[Key, LocalCode] = {}
        failed: dict[Key, str] = {}
        for one in wanted:
            try:
                found[one.key] = self._code(one)
            except LoadFailed as error:
                failed[one.key] = str(error)
        self._known, self._failed = found, failed
        return Codes(by_revision=found, broken=failed)

    def _code(self, wanted: Wanted) -> LocalCode:
        """The code of one function; the same object as before where nothing of it changed, so that warm runs stay warm."""
        target = self._target(wanted.handler, wanted.key[0])
        before = self._known.get(wanted.key)
        made = LocalCode(function_of(wanted.spec, target))
        if before is not None and before.spec == wanted.spec and before.function.handler is made.function.handler:
            return before
        if before is None:
            for note in differences(wanted.spec, target, "its manifest"):
                self._log.warning("manifest and decorator differ; the manifest holds", where=note)
        return made

    def _target(self, handler: str, function_id: str) -> Any:
        if handler not in self._targets:
            try:
                self._targets[handler] = handler_in(self._module, handler, function_id)
            except LoadFailed as failed:
                self._targets[handler] = failed
        target = self._targets[handler]
        if isinstance(target, LoadFailed):
            raise target
        return target


def _wanted(row: RevisionRow, registry: KnownRegistry) -> Iterator[Wanted]:
    """The function of a revision, and the one that cleans up after its failures."""
    known = registry.known(row.function_id)
    if known is None:
        return
    code: dict[str, str] = orjson.loads(row.code)
    handler, cleanup = code["handler"], code.get("onFailure")
    yield Wanted((row.function_id, row.revision), handler, known.spec)
    if cleanup is None:
        return
    failure_id = row.function_id + FAILURE_SUFFIX
    other = registry.known(failure_id)
    spec = other.spec if other is not None else failure_spec(known.spec)
    if spec is not None:
        module, separator, _name = handler.partition(":")
        yield Wanted((failure_id, row.revision), cleanup if ":" in cleanup or not separator else f"{module}:{cleanup}", spec)


def _told(failed: dict[Key, str]) -> str:
    return "\n".join(dict.fromkeys(f"{function_id}: {said}" for (function_id, _revision), said in failed.items()))
