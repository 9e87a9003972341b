"""A gateway over a real engine and a real SQLite store in memory, asked over HTTP without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from postgres_server import postgres, postgres_dsn  # noqa: F401  # fixtures

from stepwell.clock import Clock, SystemClock
from stepwell.decorator import Function
from stepwell.engine.well import Well
from stepwell.gateway.app import make_app
from stepwell.metrics import Metrics
from stepwell.settings import GatewaySettings
from stepwell.store.sqlite import SqliteStore
from stepwell.worker import Worker

OWN = "http://127.0.0.1:8288"


class Gateway:
    """One gateway: its well, and an HTTP client for it."""

    def __init__(self, well: Well, http: httpx.AsyncClient) -> None:
        self.well = well
        self.http = http
        self.workers: list[Worker] = []

    async def serve(self, *functions: Function[Any, Any]) -> Worker:
        """Execute these functions from now on."""
        worker = Worker(self.well, functions)
        await worker.start()
        self.workers.append(worker)
        return worker

    async def send(self, body: Any, key: str = "k") -> httpx.Response:
        """POST /e/{key}."""
        return await self.http.post(f"/e/{key}", json=body)

    async def data(self, path: str, **query: Any) -> Any:
        """What a GET answers, which must be a 200."""
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def ended(self, path: str) -> list[dict[str, Any]]:
        """The runs at a path once there are some and all have ended."""
        while True:
            runs = await self.data(path)
            if runs and all(run["status"] in {"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"} for run in runs):
                return runs


@asynccontextmanager
async def a_gateway(settings: GatewaySettings | None = None, clock: Clock | None = None) -> AsyncIterator[Gateway]:
    """A gateway whose well is open, with no function yet; `clock`: one that the test moves, for the store as well."""
    store = SqliteStore(":memory:") if clock is None else SqliteStore(":memory:", clock.now)
    await store.migrate()
    well = Well(store, clock or SystemClock(), Metrics("gateway"), "gateway")
    await well.open()
    app = make_app(well, settings or GatewaySettings(open=True))
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url=OWN) as http:
        gateway = Gateway(well, http)
        try:
            yield gateway
        finally:
            for worker in gateway.workers:
                await worker.stop()
            await well.close()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway that asks nobody for a key, as `dev` does."""
    async with a_gateway() as one:
        yield one


@pytest.fixture
def open_gateway() -> Any:
    """Make a gateway with settings of one's own."""
    return a_gateway
