"""The gateway as the command line asks it: one request at a time, with the standard library alone, so that it starts at once."""

import json
import os
import socket
import ssl
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Annotated, Any, cast
from urllib.parse import quote, urlencode, urlsplit

import typer

from stepwell.cli.progress import following
from stepwell.errors import NotReachable, StepwellError
from stepwell.settings import client_settings, path_key

SECONDS = 30
FIRST_LOOK = 0.05
LAST_LOOK = 1.0
MOST_FOLLOWED = 5
"""Of so many runs that execute at once it is shown how far they are."""
FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"})

Url = Annotated[str | None, typer.Option("--url", help="The gateway's address [STEPWELL_URL].", show_default=False)]
Key = Annotated[str | None, typer.Option("--key", help="The gateway's key [STEPWELL_KEY].", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until all runs have ended; exit 1 unless all completed.")]
Timeout = Annotated[float, typer.Option("--timeout", help="How many seconds --wait waits.", min=0)]
Rows = Annotated[int, typer.Option("--limit", help="How many rows.", min=1, max=200)]
Cursor = Annotated[
    str | None, typer.Option("--cursor", help="Where the page begins, as told by the page before.", show_default=False)
]


class RequestRefused(StepwellError):
    """The gateway answered with a problem; `document` is what it said."""

    code = "DF0402"

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(str(document.get("detail") or f"the gateway answers {status}"))
        self.status = status
        self.document = document


@dataclass(frozen=True, slots=True)
class Api:
    """One gateway."""

    url: str
    key: str | None

    @classmethod
    def at(cls, url: str | None, key: str | None) -> "Api":
        """The gateway that the options or the environment name."""
        return cls(*client_settings(os.environ, url, key))

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Read something."""
        told = {name: value for name, value in query.items() if value is not None}
        return self.ask("GET", f"{path}?{urlencode(told)}" if told else path)

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request; NotReachable without an answer, RequestRefused for a problem."""
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        status, answer = self._exchange(method, path, data, headers)
        document = _document(answer)
        if status >= 500:
            raise NotReachable(
                f"the gateway at {self.url} can't answer now ({status}: {document.get('detail', 'no reason given')})"
            )
        if not 200 <= status < 300:
            raise RequestRefused(status, document)
        return document

    def send(self, event: dict[str, Any]) -> dict[str, Any]:
        """Send one event."""
        return self.ask("POST", f"/e/{part(path_key(self.key))}", event)

    def runs_of(self, event_id: str) -> list[dict[str, Any]]:
        """The runs that an event started."""
        return cast("list[dict[str, Any]]", self.get(f"/v1/events/{part(event_id)}/runs", limit=200)["data"])

    def _exchange(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        where = urlsplit(self.url)
        kind = HTTPSConnection if where.scheme == "https" else HTTPConnection
        try:
            connection = kind(where.hostname or "127.0.0.1", where.port, timeout=SECONDS)
            try:
                connection.request(method, where.path.rstrip("/") + path, data, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            finally:
                connection.close()
        except (OSError, HTTPException, ssl.SSLError, socket.gaierror, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise NotReachable(
                f"no gateway answers at {self.url} ({reason}); start one with 'stepwell dev PATH', or give --url"
            ) from None


def until_ended(look: "Look", seconds: float, *, json: bool) -> list[dict[str, Any]]:
    """The runs once all of them have ended, or as they are when the time is up; people see how far they are meanwhile."""
    until = time.monotonic() + seconds
    pause = FIRST_LOOK
    with following(json=json) as follower:
        while True:
            runs = look.runs()
            if all(run["status"] in FINAL for run in runs) or time.monotonic() >= until:
                return runs
            if follower is not None:
                follower.show(look.closely(runs))
            time.sleep(pause)
            pause = min(pause * 1.5, LAST_LOOK)


@dataclass(frozen=True, slots=True)
class Look:
    """Which runs to look at: those of an event, or one."""

    api: Api
    event_id: str | None = None
    run_id: str | None = None

    def runs(self) -> list[dict[str, Any]]:
        """The runs as they are now."""
        if self.event_id is not None:
            return self.api.runs_of(self.event_id)
        return [self._run(self.run_id or "")]

    def closely(self, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of the runs that execute now, few at most, with what their steps tell: lists don't have that."""
        running = [run for run in runs if run["status"] == "RUNNING"][:MOST_FOLLOWED]
        return running if self.run_id is not None else [self._run(run["run_id"]) for run in running]

    def _run(self, run_id: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self.api.get(f"/v1/runs/{part(run_id)}")["data"])


def part(text: str) -> str:
    """A piece of text as one part of a path."""
    return quote(text, safe="")


def _document(answer: bytes) -> dict[str, Any]:
    try:
        found = cast("object", json.loads(answer))
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
