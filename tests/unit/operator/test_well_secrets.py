"""A well's Secrets are asked for by name, a bounded number at a time, and their well is looked at when one changed."""

from unit.operator.server import Server

from stepwell_operator.cluster import SECRET
from stepwell_operator.well_secrets import MOST, WellSecrets

SHOP, OWN = ("shop", "default"), ("shop", "own")


def write(server: Server, name: str, version: int, namespace: str = "shop") -> None:
    """A Secret as somebody wrote it."""
    server.put(SECRET, {"metadata": {"namespace": namespace, "name": name, "uid": "u", "resourceVersion": str(version)}})


async def test_a_well_is_looked_at_when_a_secret_of_it_is_gone_or_changed() -> None:
    """Once for each change; those that are as they were, or seen for the first time, concern nobody."""
    server = Server()
    for name in ("stepwell-store", "stepwell-gateway", "stepwell-store-own", "stepwell-gateway-own"):
        write(server, name, 7)
    secrets = WellSecrets(server)
    assert await secrets.look([SHOP, OWN]) == set()
    assert await secrets.look([SHOP, OWN]) == set()
    del server.there["Secret", "shop", "stepwell-gateway"]
    assert await secrets.look([SHOP, OWN]) == {SHOP}
    assert await secrets.look([SHOP, OWN]) == set()
    write(server, "stepwell-gateway", 9)
    write(server, "stepwell-store-own", 10)
    assert await secrets.look([SHOP, OWN]) == {SHOP, OWN}


async def test_a_secret_that_was_never_there_is_missed() -> None:
    """Gone between its making and the first question, it is made again all the same."""
    server = Server()
    write(server, "stepwell-store", 7)
    assert await WellSecrets(server).look([SHOP]) == {SHOP}


async def test_many_wells_take_turns() -> None:
    """No round has more calls than it may; all have their turn, and of wells that are gone nothing is asked or remembered."""
    server = Server()
    wells = [(f"n{number}", "default") for number in range(2 * MOST)]
    for namespace, _ in wells:
        for name in ("stepwell-store", "stepwell-gateway"):
            write(server, name, 7, namespace)
    secrets = WellSecrets(server)
    for _ in range(2):
        asked: set[tuple[str, str, str]] = set()
        for _ in range(2 * len(wells) // MOST):
            del server.asked[:]
            assert await secrets.look(wells) == set()
            assert len(server.asked) == MOST
            asked |= set(server.asked)
        assert len(asked) == 2 * len(wells)
    del server.asked[:]
    await secrets.look(wells[:1])
    assert {namespace for _, namespace, _ in server.asked} == {"n0"}
    assert len(server.asked) == 2
