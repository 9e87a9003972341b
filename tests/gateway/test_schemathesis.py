"""Five thousand requests made from /openapi.json, over the wire, with a key and without: no 5xx, nothing but what is described.

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
from stepwell.store.access import AuditFilter
from stepwell.store.views import RunFilter

KEY = "s3cret"
SETTINGS = GatewaySettings(keys=(KEY,), wrong_guesses=0)
"""Without a limit on wrong keys: behind it most requests would hear nothing but 429 (`test_guesses.py` tries it)."""

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
    async with open_gateway(SETTINGS) as gateway:
        await gateway.serve(greet)
        made = await cases(gateway, folder, "--max-examples", str(examples), "-H", f"Authorization: Bearer {KEY}", *options)
        assert await gateway.well.store.doctor() == []
    return made


async def without_key(open_gateway: Any, folder: Path, examples: int, phases: str, *options: str) -> int:
    async with open_gateway(SETTINGS) as gateway:
        await gateway.serve(greet)
        made = await cases(gateway, folder, "--max-examples", str(examples), "--phases", phases, *options)
        store = gateway.well.store
        assert [await store.events(None, None, 1), await store.runs(RunFilter()), await store.keys()] == [[], [], []]
        assert {act.verb for act in await store.audit(AuditFilter())} == {"register"}
    return made


async def at_once(open_gateway: Any, folder: Path, examples: int, *options: str) -> int:
    """Both at once, each with a gateway of its own: Schemathesis takes more time than what it asks."""
    for name in ("with", "without"):
        (folder / name).mkdir()
    phases = "examples,coverage,fuzzing"
    return sum(
        await asyncio.gather(
            with_key(open_gateway, folder / "with", examples, *options),
            without_key(open_gateway, folder / "without", examples * 6 // 10, phases, *options),
        )
    )


@pytest.mark.timeout(900)
async def test_five_thousand_cases(open_gateway: Any, tmp_path: Path) -> None:
    """With a key every answer is as described, and the store stays sound; without one nothing gets in: no event, run, key or act."""
    assert await at_once(open_gateway, tmp_path, 100, "--seed", "1") >= 5000


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_at_length(open_gateway: Any, tmp_path: Path) -> None:
    """The same with some ten thousand requests, others each time."""
    assert await at_once(open_gateway, tmp_path, 250) > 9000
