"""Row 17: logs without duplicates on replay."""

import logging
from datetime import timedelta

import pytest
import structlog

import stepwell
from stepwell import Context, Event, log
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")


async def test_ctx_logger_is_silent_while_replaying(durable: Durable) -> None:
    """Each line is written once, however often the code is replayed, with run, function, step and attempt."""

    @stepwell.function(id="talk", triggers=[stepwell.on_event("go")])
    async def talk(ctx: Context) -> None:
        ctx.logger.info("begin")

        def body() -> None:
            stepwell.current_step().logger.info("inside", n=1)

        await ctx.step.run("one", body)
        ctx.logger.info("between %s", "steps")
        await ctx.step.sleep("nap", "2h")
        ctx.logger.info("end")

    with structlog.testing.capture_logs() as lines:
        run = await durable.send(talk, GO)
        await durable.crash()
        await durable.advance(timedelta(hours=2))
    assert (await run.status()).value == "completed"
    told = [(line["event"], line.get("step"), line["attempt"]) for line in lines if line.get("run_id") == run.run_id]
    assert told == [("begin", None, 0), ("inside", "one", 0), ("between steps", None, 0), ("end", None, 0)]
    assert {line["function"] for line in lines if "function" in line} == {"talk"}


async def test_the_users_own_logger(durable: Durable, caplog: pytest.LogCaptureFixture) -> None:
    """Lines of the standard library's loggers carry the context, and replayed ones are dropped."""
    mine = logging.getLogger("mine")
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(log.ContextFilter())

    @stepwell.function(id="talk", triggers=[stepwell.on_event("go")])
    async def talk(ctx: Context) -> None:
        mine.info("begin")
        await ctx.step.run("one", lambda: mine.info("inside"))
        await ctx.step.sleep("nap", "2h")
        mine.info("end")

    run = await durable.send(talk, GO)
    await durable.crash()
    await durable.advance(timedelta(hours=2))
    told = [(record.getMessage(), getattr(record, "step", None)) for record in caplog.records if record.name == "mine"]
    assert told == [("begin", None), ("inside", "one"), ("end", None)]
    assert {record.run_id for record in caplog.records if record.name == "mine"} == {run.run_id}


async def test_the_users_own_structlog(durable: Durable) -> None:
    """With `stepwell.log.add_context` among the processors, structlog lines carry the context and aren't doubled."""
    lines: list[dict[str, object]] = []

    def keep(_logger: object, _method: str, event: dict[str, object]) -> dict[str, object]:
        lines.append(dict(event))
        raise structlog.DropEvent

    mine = structlog.wrap_logger(None, processors=[log.add_context, keep])

    @stepwell.function(id="talk", triggers=[stepwell.on_event("go")])
    async def talk(ctx: Context) -> None:
        mine.info("begin")
        await ctx.step.sleep("nap", "2h")
        mine.info("end")

    run = await durable.send(talk, GO)
    await durable.crash()
    await durable.advance(timedelta(hours=2))
    assert [line["event"] for line in lines] == ["begin", "end"]
    assert {line["run_id"] for line in lines} == {run.run_id}
