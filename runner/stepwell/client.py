"""Send events to a gateway: ids are made before the first try, so a resent event is never a second one."""

import asyncio
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import orjson

from stepwell import values
from stepwell.clock import SystemClock
from stepwell.errors import NotReachable, StepwellError
from stepwell.event import Event
from stepwell.ids import Ids
from stepwell.settings import path_key

if TYPE_CHECKING:
    import aiohttp

MOST_EVENTS = values.MAX_BATCH_EVENTS
MOST_BYTES = values.MAX_BATCH - 2
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
AGAIN = frozenset({408, 429})


class Refused(StepwellError):
    """The gateway answered, and won't: asking again changes nothing until the caller changes something.

    `status` is the HTTP status (400 invalid, 401 no or wrong key, 404, 409 same id with another body, 413 too large), `results`
    tells each event's fate where a batch was sent: those that say "accepted" or "duplicate" are stored.
    """

    code = "DF0402"

    def __init__(self, message: str, status: int, results: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.results = tuple(results)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the client goes on trying: `tries` in all, `seconds` for each answer."""

    tries: int = 8
    seconds: float = 15.0


class Client:
    """A gateway, from Python. Use it as `async with Client(url, key) as client`, or call `close` at the end.

    `key` is an event key or an API key; None for a gateway without one.
    """

    def __init__(self, url: str = "http://127.0.0.1:8288", key: str | None = None, patience: "Patience | None" = None) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._patience = patience or Patience()
        self._ids = Ids()
        self._clock = SystemClock()
        self._random = random.Random()  # noqa: S311  # spreads retries, guards nothing
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, events: Event[Any] | Sequence[Event[Any]]) -> list[str]:
        """Send one event or several and return their ids in order; on return all of them are stored.

        Lost connections and 5xx answers are retried with the same ids. Raises Refused for what the gateway won't take (the good
        ones of a batch are stored all the same), NotReachable when it doesn't answer in time, ValueRefused for what is no JSON.
        """
        several = [events] if isinstance(events, Event) else list(events)
        documents = [self._document(event) for event in several]
        refused: list[Refused] = []
        for pile in _piles([encoded for _, encoded in documents], alone=isinstance(events, Event)):
            try:
                await self._post(pile)
            except Refused as refusal:
                refused.append(refusal)
        if refused:
            raise _joined(refused)
        return [event_id for event_id, _ in documents]

    def _document(self, event: Event[Any]) -> tuple[str, bytes]:
        event_id = event.id or self._ids.ulid(self._clock.now() // 1000)
        document: dict[str, Any] = {"id": event_id, "name": event.name, "data": event.data}
        if event.ts is not None:
            document["ts"] = event.ts
        if event.v is not None:
            document["v"] = event.v
        return event_id, values.encode(document, "event")

    async def _post(self, body: bytes) -> None:
        import aiohttp  # noqa: PLC0415  # whoever only defines functions starts faster without it

        trouble = "no answer"
        for attempt in range(self._patience.tries):
            if attempt:
                await asyncio.sleep(self._random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)))
            try:
                status, answer = await self._ask(body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                trouble = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                continue
            if 200 <= status < 300:
                return
            if status < 500 and status not in AGAIN:
                raise _refusal(status, answer)
            trouble = f"it answers {status}"
        raise NotReachable(
            f"the gateway at {self._url} did not take the events in {self._patience.tries} tries ({trouble}); "
            "sending them again with the same ids is safe"
        )

    async def _ask(self, body: bytes) -> tuple[int, bytes]:
        import aiohttp  # noqa: PLC0415

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._patience.seconds))
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        async with self._session.post(
            f"{self._url}/e/{path_key(self._key)}", data=io.BytesIO(body), headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, await answer.read()


def _piles(documents: list[bytes], *, alone: bool) -> Iterator[bytes]:
    """Bodies that stay within the gateway's limits for one request."""
    if alone:
        yield from documents
        return
    pile: list[bytes] = []
    size = 0
    for document in documents:
        if pile and (len(pile) == MOST_EVENTS or size + len(document) + 1 > MOST_BYTES):
            yield b"[" + b",".join(pile) + b"]"
            pile, size = [], 0
        pile.append(document)
        size += len(document) + 1
    if pile:
        yield b"[" + b",".join(pile) + b"]"


def _joined(refused: Sequence[Refused]) -> Refused:
    """One error for all piles, so that every event's fate is told."""
    if len(refused) == 1:
        return refused[0]
    return Refused(str(refused[0]), refused[0].status, [result for refusal in refused for result in refusal.results])


def _refusal(status: int, answer: bytes) -> Refused:
    try:
        problem = cast("object", orjson.loads(answer))
    except orjson.JSONDecodeError:
        problem = None
    told = cast("dict[str, Any]", problem) if isinstance(problem, dict) else {}
    results = cast("list[Mapping[str, Any]]", told.get("results", []))
    return Refused(f"the gateway refuses ({status}): {told.get('detail', 'no reason given')}", status, results)
