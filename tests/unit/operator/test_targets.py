"""Code out of a ConfigMap is the code that is there when its function is: read with it, looked at every few seconds, let go of."""

from typing import Any

import pytest
from unit.operator.observations import seen_of, spec_of
from unit.operator.server import Server

from stepwell_operator.cluster import AT_ONCE, CONFIG_MAP
from stepwell_operator.maps import MOST_NAMESPACES
from stepwell_operator.target import Fault, Target
from stepwell_operator.targets import Targets
from stepwell_operator.world import Seen, World

OLD, NEW = "async def main(ctx):\n    return 1\n", "async def main(ctx):\n    return 2\n"


def write(server: Server, version: int, code: str, *, name: str = "code", uid: str = "m-1", namespace: str = "shop") -> None:
    """A ConfigMap as somebody wrote it."""
    metadata = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": str(version)}
    server.put(CONFIG_MAP, {"metadata": metadata, "data": {"a.py": code}})


def function(name: str = "one", source: str = "code", **more: Any) -> Seen:
    """A function whose code is in a ConfigMap."""
    spec = spec_of(source={"configMap": {"name": source, "key": "a.py", "handler": "main"}})
    return seen_of(spec, name=name, **more)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def targets(server: Server, world: World) -> Targets:
    return Targets(server, world)


async def code_of(targets: Targets, seen: Seen) -> str | None:
    target = await targets.get(seen)
    assert isinstance(target, Target), target
    return target.pool.code.text


async def test_a_function_that_was_deleted_and_applied_again_starts_on_the_new_code(targets: Targets, server: Server) -> None:
    """Deleted with its ConfigMap, edited, applied: the first revision of the new function is of the new code, heard of or not."""
    write(server, 7, OLD)
    assert await code_of(targets, function()) == OLD
    targets.forget("shop", "one")
    write(server, 9, NEW, uid="m-2")
    assert await code_of(targets, function(uid="uid-2")) == NEW
    write(server, 12, OLD, uid="m-3")
    assert await code_of(targets, function(uid="uid-3")) == OLD


async def test_an_apply_of_both_the_config_map_and_the_handler_makes_one_revision(targets: Targets, server: Server) -> None:
    """A spec that changed is read with the ConfigMap that is there by then; one that didn't costs no call."""
    write(server, 7, OLD)
    await targets.get(function())
    write(server, 8, NEW)
    assert await code_of(targets, function(generation=4)) == NEW
    del server.asked[:]
    assert await code_of(targets, function(generation=4, version=9)) == NEW
    assert not server.asked


async def test_what_changed_is_found_by_one_list(targets: Targets, server: Server) -> None:
    """A look lists versions and reads what has another one; it names the functions concerned, once for each change."""
    for name in ("code", "other", "idle"):
        write(server, 7, OLD, name=name, uid=name)
    for seen in (function(), function("two"), function("three", "other"), function("four", "none")):
        await targets.get(seen)
    del server.asked[:]
    assert await targets.look_at_maps() == []
    assert server.asked == []
    write(server, 8, NEW, uid="code")
    write(server, 9, NEW, name="none", uid="none")
    assert sorted(await targets.look_at_maps()) == [("shop", "four"), ("shop", "one"), ("shop", "two")]
    assert sorted(server.asked) == [("ConfigMap", "shop", "code"), ("ConfigMap", "shop", "none")]
    assert await code_of(targets, function("two")) == NEW
    del server.there["ConfigMap", "shop", "other"]
    assert await targets.look_at_maps() == [("shop", "three")]
    assert isinstance(await targets.get(function("three", "other")), Fault)
    assert await targets.look_at_maps() == []


async def test_what_is_no_source_any_more_is_let_go_of(targets: Targets, server: Server) -> None:
    """ConfigMaps of functions that are gone, or name another by now, are not kept; without any no call is made."""
    for name in ("code-a1", "code-b2"):
        write(server, 7, OLD, name=name, uid=name)
    await targets.get(function(source="code-a1"))
    await targets.get(function(source="code-b2", generation=4))
    assert await targets.look_at_maps() == []
    assert set(targets.maps.read) == {("shop", "code-b2")}
    targets.forget("shop", "one")
    assert await targets.look_at_maps() == []
    assert not targets.maps.read
    del server.listed[:]
    await targets.look_at_maps()
    assert not server.listed


async def test_at_first_each_config_map_is_read_once(targets: Targets, server: Server, world: World) -> None:
    """A fresh operator reads the ConfigMap of many functions once, before it has anything to do with them."""
    for name in ("code", "other"):
        write(server, 7, OLD, name=name, uid=name)
    for number in range(3 * AT_ONCE):
        seen = function(f"f{number}", "code" if number else "other")
        world.functions[seen.key] = seen
    await targets.first()
    assert sorted(server.asked) == [("ConfigMap", "shop", "code"), ("ConfigMap", "shop", "other")]
    for seen in world.functions.values():
        assert await code_of(targets, seen) == OLD
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("count", "namespaces", "places"),
    [(2, (), 2), (MOST_NAMESPACES + 1, (), None), (MOST_NAMESPACES + 1, ("n0",), MOST_NAMESPACES + 1)],
)
async def test_many_namespaces_are_listed_as_one(
    server: Server, world: World, count: int, namespaces: tuple[str, ...], places: int | None
) -> None:
    """A few namespaces are listed by themselves, more by one list of the cluster, if it may be listed."""
    targets = Targets(server, world, namespaces)
    for number in range(count):
        write(server, 7, OLD, namespace=f"n{number}")
        await targets.get(function(namespace=f"n{number}"))
    await targets.look_at_maps()
    assert [place for _, place in server.listed] == ([None] if places is None else sorted(f"n{one}" for one in range(places)))


async def test_an_answer_that_comes_late_does_not_bring_old_code_back(targets: Targets, server: Server) -> None:
    """Of two answers about a ConfigMap the one with the higher version counts, whichever comes last."""
    write(server, 8, NEW)
    assert await code_of(targets, function()) == NEW
    write(server, 7, OLD)
    assert await code_of(targets, function(generation=4)) == NEW
