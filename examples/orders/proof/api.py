"""The public HTTP API, as far as the demo needs it."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import aiohttp

from .problem import DemoFailed, NotAnswered

LIVE = ("QUEUED", "RUNNING", "SLEEPING", "WAITING")
PAGE = 200
AT_ONCE = 8
JSON = {"Content-Type": "application/json"}


class Api:
    """One gateway, at an address that changes when it is started again."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def post_events(self, body: str) -> tuple[int, list[dict[str, Any]]]:
        """Send a body as it is; the status and the fate of each event. Raises NotAnswered where nothing is known of it."""
        try:
            return await self._post(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NotAnswered from error

    async def _post(self, body: str) -> tuple[int, list[dict[str, Any]]]:
        async with self.session.post(f"{self.url}/e/demo", data=body.encode(), headers=JSON) as answer:
            if answer.status >= 500:
                raise NotAnswered
            told: dict[str, Any] = json.loads(await answer.read())
            return answer.status, told.get("results", [])

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read something."""
        async with self.session.get(f"{self.url}{path}", params=query) as answer:
            if answer.status != 200:
                raise DemoFailed(f"GET {path} {query} answers {answer.status}: {await answer.text()}")
            return json.loads(await answer.read())

    async def until_ready(self) -> None:
        """Come back once it takes requests and its store answers."""
        while True:
            async with self.session.get(f"{self.url}/ready") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)

    async def all(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Every row of a list, page by page."""
        rows: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            page = await self.get(path, limit=str(PAGE), **query, **more)
            rows.extend(page["data"])
            cursor = page["metadata"]["cursor"]
            if cursor is None:
                return rows
            more = {"cursor": cursor}

    async def live(self) -> dict[str, list[dict[str, Any]]]:
        """The live runs by status."""
        return {status: await self.all("/v1/runs", status=status) for status in LIVE}

    async def each(self, paths: Sequence[str]) -> list[Any]:
        """The data of many pages, a few at once, in order."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(path: str) -> Any:
            async with gate:
                return (await self.get(path))["data"]

        return await asyncio.gather(*(one(path) for path in paths))


def run_path(run_id: str) -> str:
    """Where one run is."""
    return f"/v1/runs/{quote(run_id, safe='')}"
