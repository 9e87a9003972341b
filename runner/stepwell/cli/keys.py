"""`stepwell keys`."""

import getpass
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from stepwell.cli.api import Api, Json, Key, Url, part
from stepwell.cli.show import json_out, line, note, table, time_of

T = TypeVar("T")
app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Make, list and revoke keys for senders. They ask the gateway, or with --store the store itself.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; two live ones of a name at most.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="An event that it may send, or a wildcard such as 'shop/*'; may be given again [all]."),
]
Webhook = Annotated[bool, typer.Option("--webhook", help="A secret that signs webhooks (Standard Webhooks), instead of a key.")]
Store = Annotated[
    str | None, typer.Option("--store", help="Work on this store itself, where no gateway lets you in.", show_default=False)
]


@app.command()
def create(  # noqa: PLR0913, PLR0917  # the options are the command's face
    name: Name,
    event: Events = None,
    webhook: Webhook = False,
    store: Store = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Make a key that may send some events, and nothing else. It is shown this once."""
    body = {"name": name, "events": event or ["*"], "webhook": webhook}
    made = _in_store(store, lambda ring: ring.create(**body)) if store else Api.at(url, key).ask("POST", "/v1/keys", body)["data"]
    if json:
        json_out(made)
        return
    line(made["key"])
    where = f"; post to /hooks/{made['key_id']}" if webhook else ""
    note(f"key {made['key_id']} of {name}, for {', '.join(made['events'])}{where}. It is not shown again.")


@app.command("list")
def list_(store: Store = None, json: Json = False, url: Url = None, key: Key = None) -> None:
    """List keys, newest first."""
    found = _in_store(store, lambda ring: ring.all()) if store else Api.at(url, key).get("/v1/keys")["data"]
    if json:
        json_out(found)
        return
    rows = [
        [one["key_id"], one["name"], one["kind"], _state(one), time_of(one["created_at"]), ", ".join(one["events"])]
        for one in found
    ]
    table(["KEY", "NAME", "KIND", "STATE", "CREATED (UTC)", "EVENTS"], rows)


@app.command()
def revoke(key_id: KeyId, store: Store = None, json: Json = False, url: Url = None, key: Key = None) -> None:
    """End a key; within five seconds no gateway lets it in."""
    if store:
        done = _in_store(store, lambda ring: ring.revoke(key_id))
    else:
        done = Api.at(url, key).ask("DELETE", f"/v1/keys/{part(key_id)}")["data"]
    if json:
        json_out(done)
    else:
        line(f"key {done['key_id']} is revoked")


def _state(key: dict[str, Any]) -> str:
    return "live" if key["revoked_at"] is None else f"revoked {time_of(key['revoked_at'])}"


def _in_store(address: str, ask: Callable[[Any], Awaitable[T]]) -> T:
    """Ask a store itself, in the name of whoever runs this command."""
    from stepwell.gateway.keys import Keyring  # noqa: PLC0415  # asking a gateway starts faster without
    from stepwell.processes import make_store, run  # noqa: PLC0415
    from stepwell.settings import Given, store_settings  # noqa: PLC0415

    found: list[T] = []

    async def work() -> None:
        store = make_store(store_settings(os.environ, Given(store=address)))
        await store.open()
        try:
            found.append(await ask(Keyring.by_hand(store, f"store:{getpass.getuser()}")))
        finally:
            await store.close()

    run(work)
    return found[0]
