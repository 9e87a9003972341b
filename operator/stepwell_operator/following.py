"""Wells whose addresses we made follow the administrator's: to another server, database or parameter, as the same role.

What stands in the way leaves a well where it is, and usable: it is told in the log once, and a Postgres that can't be reached is
tried once for all wells. Only a Postgres that answers and lacks the well is an error: somebody means to use it and has to restore
the data.
"""

import asyncio
from collections.abc import Callable

import structlog

from stepwell_operator.provision import (
    AdministratorAway,
    Provisioned,
    ProvisionError,
    WellMissing,
    address_for,
    is_as_made,
    our_password,
    place_of,
    provision,
    reach,
    schema_of,
)

PAUSE = 60.0
"""How long a Postgres that couldn't be reached isn't tried again, in seconds."""


class Following:
    """Leads wells to where the administrator's address leads by now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._trial = asyncio.Lock()
        self._answers = ""
        """The administrator's address that was reached."""
        self._away: tuple[str, float, str] = ("", 0.0, "")
        """The one that wasn't, until when it isn't tried again, and why."""
        self._told: tuple[str, set[str]] = ("", set())
        """What was said of which of the administrator's addresses."""
        self._held: dict[str, str] = {}
        self._log = structlog.get_logger("stepwell.operator")

    async def follow(self, admin: str | None, namespace: str, there: Provisioned) -> Provisioned:
        """The address to use: the one that is there, or the same role's in the administrator's Postgres; raise WellMissing."""
        self.forget(namespace)
        if admin is None:
            return there
        try:
            return await self._followed(admin, namespace, there)
        except WellMissing:
            raise
        except ProvisionError as error:
            self.stay(admin, namespace, error)
            return there

    def stay(self, admin: str, namespace: str, error: ProvisionError) -> None:
        """Note why a well stays where it is."""
        self._held[namespace] = str(error)
        if self._is_news(admin, str(error)):
            self._log.warning("wells stay where they are: the administrator's new address can't be followed", error=str(error))

    def forget(self, namespace: str) -> None:
        """Nothing is in this well's way any more, or it is gone."""
        self._held.pop(namespace, None)

    def held(self, namespace: str) -> str:
        """Why a well stays where it is although the administrator's address leads elsewhere; empty if nothing is in its way."""
        return self._held.get(namespace, "")

    async def _followed(self, admin: str, namespace: str, there: Provisioned) -> Provisioned:
        place, role = place_of(admin), schema_of(namespace)
        password = our_password(there.dsn, role)
        if there.place == place or password is None:
            return there
        if there.dsn == address_for(admin, role, password):
            return Provisioned(there.dsn, place)
        if not is_as_made(there, role):
            if self._is_news(admin, namespace):
                self._log.info(
                    "a well's Secret doesn't follow the administrator's address; deleted, it is made anew there",
                    namespace=namespace,
                    why="edited by hand" if there.place else "made by an earlier release, or by hand",
                )
            return there
        await self._reach(admin)
        try:
            made = await provision(admin, namespace, password, moved=True)
        except AdministratorAway as error:
            self._lost(admin, error)
            raise
        self._log.info("a well's Secret follows the administrator's address", namespace=namespace)
        return made

    async def _reach(self, admin: str) -> None:
        """Raise AdministratorAway unless it answers. One well tries it; the others wait for how that goes, and believe it."""
        async with self._trial:
            if self._answers == admin:
                return
            address, until, why = self._away
            if address == admin and self._clock() < until:
                raise AdministratorAway(why)
            try:
                await reach(admin)
            except AdministratorAway as error:
                self._lost(admin, error)
                raise
            self._answers = admin

    def _lost(self, admin: str, error: AdministratorAway) -> None:
        self._answers = ""
        self._away = (admin, self._clock() + PAUSE, str(error))

    def _is_news(self, admin: str, what: str) -> bool:
        if self._told[0] != admin:
            self._told = (admin, set())
        is_news = what not in self._told[1]
        self._told[1].add(what)
        return is_news
