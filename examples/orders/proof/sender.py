"""Sends the file in its order, as the world would: a customer pays or cancels once the shop waits for that."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .api import Api, run_path
from .expected import FOLLOWING, Line
from .problem import DemoFailed, NotAnswered

READ_AT_ONCE = 6
TAKEN = frozenset({"accepted", "duplicate"})


@dataclass(slots=True)
class Sender:
    """What was read, what is held back, what is on its way, and what became of the rest.

    `fates` are by line number. `unsure` are lines whose sending was never answered: sent again they may turn out to be
    duplicates of themselves. `accepted` holds the ids that are in.
    """

    lines: Sequence[Line]
    place: int = 0
    held: list[Line] = field(default_factory=list[Line])
    under_way: list[Line] = field(default_factory=list[Line])
    unsure: set[int] = field(default_factory=set[int])
    fates: dict[int, str] = field(default_factory=dict[int, str])
    resent: int = 0
    _first: dict[str, str] = field(default_factory=dict[str, str])
    _answered: set[str] = field(default_factory=set[str])
    _awaited: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        for line in self.lines:
            if line.event is not None and line.event["name"] == "order/created" and line.fate == "accepted":
                self._first.setdefault(line.event["data"]["orderId"], line.event["id"])

    @property
    def sent(self) -> int:
        """How many lines have been answered."""
        return len(self.fates)

    @property
    def done(self) -> bool:
        """Whether every line has been answered."""
        return self.sent == len(self.lines)

    async def step(self, api: Api) -> None:
        """Send what is next."""
        await self.post(api, await self.next_batch(api))

    async def next_batch(self, api: Api) -> Sequence[Line]:
        """Lines that were never answered, else held ones whose time has come and a few new ones; malformed ones go alone."""
        if self.under_way:
            self.resent += len(self.under_way)
            self.unsure.update(line.number for line in self.under_way)
            return self.under_way
        await self._look(api)
        batch: list[Line] = []
        held, self.held = self.held, []
        for line in (*held, *self._read()):
            if line.event is None:
                await self._post_alone(api, line)
            elif self._may_go(line):
                batch.append(line)
            else:
                self.held.append(line)
        return batch

    async def post(self, api: Api, batch: Sequence[Line]) -> None:
        """Send these lines in one request and take down the fate of each."""
        if not batch:
            return
        self.under_way = list(batch)
        try:
            _, results = await api.post_events("[" + ",".join(line.text for line in batch) + "]")
        except NotAnswered:
            return  # the batch stays under way, to be sent again at the next step
        if len(results) != len(batch):
            raise DemoFailed(f"{len(batch)} events were sent and the fates of {len(results)} told")
        for line, told in zip(batch, results, strict=True):
            self._settle(line, told["status"])
        self.under_way = []

    def tally(self) -> Counter[str]:
        """How many lines came to what."""
        return Counter(self.fates.values())

    def _read(self) -> Sequence[Line]:
        new = self.lines[self.place : self.place + READ_AT_ONCE]
        self.place += len(new)
        return new

    def _may_go(self, line: Line) -> bool:
        event = line.event or {}
        if event["name"] not in FOLLOWING or event["data"]["orderId"] not in self._first:
            return True
        # The first with an id goes when its run waits; a later one with that id goes after it.
        return event["id"] in self._answered if line.fate != "accepted" else event["data"]["orderId"] in self._awaited

    async def _look(self, api: Api) -> None:
        """Find out which orders wait for what their held lines bring."""
        wanted = {line.event["data"]["orderId"] for line in self.held if line.event is not None} - self._awaited
        if not wanted:
            return
        order_of = {event_id: order_id for order_id, event_id in self._first.items() if order_id in wanted}
        waiting = await api.all("/v1/runs", function="process-order", status="WAITING")
        runs = [(run, order_of[run["event_ids"][0]]) for run in waiting if run["event_ids"][0] in order_of]
        for found, (_, order_id) in zip(await api.each([run_path(run["run_id"]) for run, _ in runs]), runs, strict=True):
            reason = found["waiting_for"]
            if reason is not None and reason["kind"] == "event":
                self._awaited.add(order_id)

    async def _post_alone(self, api: Api, line: Line) -> None:
        try:
            status, _ = await api.post_events(line.text)
        except NotAnswered:
            self.held.append(line)
            return
        self.fates[line.number] = "refused" if status == 400 else f"answered with {status}"

    def _settle(self, line: Line, status: str) -> None:
        event_id = "" if line.event is None else line.event["id"]
        is_first = event_id not in self._answered
        if status == "duplicate" and is_first and line.number in self.unsure:
            status = "accepted"  # by its own first sending, whose answer was lost
        if status in TAKEN:
            self._answered.add(event_id)
        self.fates[line.number] = status
