"""`/healthz`, `/readyz` and `/metrics` of an operator, leading or standing by."""

from collections.abc import Callable, Sequence

from aiohttp import web

from stepwell_operator.metrics import OperatorMetrics


class Health:
    """Answers probes. `deaf` lists watches that hear nothing; `missing` what the operator can't work without."""

    def __init__(self, metrics: OperatorMetrics, deaf: Callable[[], Sequence[str]]) -> None:
        self._metrics = metrics
        self._deaf = deaf
        self.missing: tuple[str, ...] = ("the API server has not been asked yet",)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen."""
        app = web.Application()
        app.add_routes(
            [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics_page)]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        deaf = self._deaf()
        if deaf:
            return web.Response(status=503, text=f"the watches of {', '.join(deaf)} have gone deaf\n")
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self.missing:
            return web.Response(status=503, text="".join(f"missing: {one}\n" for one in self.missing))
        return web.Response(text="ok\n")

    async def _metrics_page(self, request: web.Request) -> web.Response:
        body, headers = await self._metrics.exposition(request.headers.get("Accept-Encoding", ""))
        return web.Response(body=body, headers=headers)
