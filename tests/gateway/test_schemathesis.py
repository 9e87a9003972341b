"""Thousands of requests made from /openapi.json, over the wire, with a key and without: no 5xx, nothing but what is described.

Not asked: that whatever the schema allows is accepted (`positive_data_acceptance`). What is CEL, a cursor, a name that an event may have
or an integer that can be kept, JSON Schema can't say.
"""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import stepwell
from stepwell import Context
from stepwell.gateway.serve import listen, serving
from stepwell.settings import GatewaySettings
from stepwell.store.records import AuditFilter, RunFilter

KEY = "s3cret"
ADMIN = {"Authorization": f"Bearer {KEY}"}


@stepwell.function(id="greet", triggers=[stepwell.on_event("user/signup")])
async def greet(ctx: Context) -> str:
    return await ctx.step.run("say", lambda: "hello")


async def cases(gateway: Any, folder: Path, *options: str) -> int:
    """Run Schemathesis with all its phases against this gateway; how many requests it made. It must find nothing."""
    document = folder / "openapi.json"
    described = await gateway.http.get("/openapi.json", headers=ADMIN)
    document.write_text(json.dumps(described.json()), encoding="utf-8")
    listener = listen("127.0.0.1", 0)
    async with serving(gateway.http._transport.app, listener):
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("schemathesis")), "run", str(document)),
            *("--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "--no-color", "--request-timeout", "30"),
            *("--exclude-checks", "positive_data_acceptance", *options),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    found = re.search(r"(\d+) generated", said)
    assert found is not None, said
    return int(found[1])


async def with_key(open_gateway: Any, folder: Path, examples: int, *options: str) -> int:
    async with open_gateway(GatewaySettings(keys=(KEY,))) as gateway:
        await gateway.serve(greet)
        made = await cases(gateway, folder, "--max-examples", str(examples), "-H", f"Authorization: Bearer {KEY}", *options)
        assert await gateway.well.store.doctor() == []
    return made


async def without_key(open_gateway: Any, folder: Path, examples: int, phases: str, *options: str) -> int:
    async with open_gateway(GatewaySettings(keys=(KEY,))) as gateway:
        await gateway.serve(greet)
        made = await cases(gateway, folder, "--max-examples", str(examples), "--phases", phases, *options)
        store = gateway.well.store
        assert [await store.events(None, None, 1), await store.runs(RunFilter()), await store.keys()] == [[], [], []]
        assert {act.verb for act in await store.audit(AuditFilter())} == {"register"}
    return made


@pytest.mark.timeout(300)
async def test_with_a_key(open_gateway: Any, tmp_path: Path) -> None:
    """With a key every answer is one that the document describes, negative requests are refused, and the store stays sound."""
    assert await with_key(open_gateway, tmp_path, 5, "--seed", "1") > 400


@pytest.mark.timeout(300)
async def test_without_a_key(open_gateway: Any, tmp_path: Path) -> None:
    """Without a key nothing that is sent gets in: no event, no run, no key, no act is in the store afterwards."""
    assert await without_key(open_gateway, tmp_path, 5, "coverage", "--seed", "1") > 300


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_at_length(open_gateway: Any, tmp_path: Path) -> None:
    """The same with some five thousand requests, another seed each time."""
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    made = await with_key(open_gateway, tmp_path / "with", 100)
    made += await without_key(open_gateway, tmp_path / "without", 60, "examples,coverage,fuzzing")
    assert made > 4500
