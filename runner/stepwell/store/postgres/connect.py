"""Connections to one Postgres: made when needed, few, and gone at the first doubt.

A connection whose command timed out or broke is terminated: what it was doing may or may not have happened, and whoever asked
hears StoreUnavailable and asks again.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from stepwell.errors import AddressRefused, AnswerTooLarge, RoleRefused, StoreError, StoreUnavailable
from stepwell.store.postgres.driver import Connection, allow, open_connection

COMMAND_TIMEOUT = 10.0
CONNECT_TIMEOUT = 5.0
ACQUIRE_TIMEOUT = 5.0
IDLE = 30.0
LONGEST_PAUSE = 5.0
ADDRESS_FORM = "it is postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with reserved characters of the password percent-encoded"
SCHEMA = "stepwell"
MAX_SCHEMA = 63

RETRIED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.InvalidCachedStatementError)
"""Nothing of a transaction that ended so has landed: sent again at once."""

_AWAY_CLASSES = ("08", "53", "57", "58")
_AWAY_STATES = ("25006", "55P03")
_GONE = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InsufficientPrivilegeError,
)
"""What statements meet while a well is being restored: its schema is away, or only half there."""
_DATABASE_REFUSALS = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ObjectNotInPrerequisiteStateError,
)
"""How a server refuses a database: it isn't there, isn't the role's or takes nobody now."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the well lies. `pooler`: a pooler in transaction mode stands between, so no session state may be relied upon.

    `most`: how many bytes an answer may have, for whoever can't trust the server; 0 is any number.
    """

    dsn: str
    pooler: bool = False
    reads: int = 1
    schema: str = SCHEMA
    most: int = 0


def parse_address(dsn: str) -> Address:
    """Take `schema`, `pooler` and `reads`, which are ours, out of a `postgresql://` address; raise StoreError."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        raise AddressRefused(f"the store's address has a host that can't be read; {ADDRESS_FORM}") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise AddressRefused(f"the store's address does not begin with postgresql://; {ADDRESS_FORM}")
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isdecimal() and 0 < int(port) < 65_536):
            raise AddressRefused(f"the store's address has a port that is no number from 1 to 65535; {ADDRESS_FORM}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    pooler = options.pop("pooler", "0").lower() in {"1", "true", "yes", "on"}
    reads = options.pop("reads", "1")
    if not reads.isdigit() or not 1 <= int(reads) <= 100:
        raise StoreError(f"the store's address says reads={reads}; it is how many connections may read at once, 1 to 100")
    schema = options.pop("schema", SCHEMA)
    if not 1 <= len(schema.encode()) <= MAX_SCHEMA or "\0" in schema:
        raise StoreError(f"the store's address says schema={schema[:80]!r}; a schema's name has 1 to {MAX_SCHEMA} bytes")
    return Address(urlunsplit(parts._replace(query=urlencode(options))), pooler, int(reads), schema)


def translated(error: Exception) -> Exception:
    """The store's error for one of the driver's: StoreUnavailable if asking again may help, else StoreError.

    The driver's loses its detail, which quotes whole rows: payloads are in them, and a log shows its text in a traceback too.
    """
    if isinstance(error, asyncpg.PostgresError):
        vars(error)["detail"] = None
        state: str = getattr(error, "sqlstate", None) or ""
        message = f"Postgres: {error} ({state})"
        if state[:2] in _AWAY_CLASSES or state in _AWAY_STATES or isinstance(error, RETRIED):
            return StoreUnavailable(message)
        return StoreError(message)
    if isinstance(error, (OSError, asyncio.TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        if isinstance(error, (asyncpg.InterfaceError,)) and not _is_closed(error):
            return StoreError(f"Postgres: {error}")
        return StoreUnavailable(f"Postgres can't be reached: {error or type(error).__name__}")
    return error


def _is_closed(error: asyncpg.InterfaceError) -> bool:
    text = str(error)
    return "closed" in text or "terminated" in text or "released" in text


async def connect(address: Address) -> Connection:
    """One connection with the timeouts that every one has; raise StoreUnavailable if there is none to be had now."""
    # A pooler knows no settings of a session, so there it is the role's own that hold (docs: PgBouncer).
    settings = (
        {}
        if address.pooler
        else {
            "lock_timeout": "2s",
            "statement_timeout": "15s",
            "idle_in_transaction_session_timeout": "10s",
            "timezone": "UTC",
        }
    )
    if not address.pooler and "application_name=" not in address.dsn:
        settings["application_name"] = "stepwell"
    more: dict[str, Any] = {"statement_cache_size": 0} if address.pooler else {"max_cached_statement_lifetime": 0}
    try:
        made = await open_connection(
            address.dsn, timeout=CONNECT_TIMEOUT, command_timeout=COMMAND_TIMEOUT, server_settings=settings, **more
        )
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise RoleRefused(f"Postgres refuses the user or password of this address ({error.sqlstate})") from error
    except _DATABASE_REFUSALS as error:
        raise AddressRefused(f"Postgres refuses the database of this address ({error.sqlstate})") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise translated(error) from error
    except ValueError:  # of a name that no resolver takes; the driver's text would repeat it
        raise AddressRefused(f"the store's address has a host that can't be read; {ADDRESS_FORM}") from None
    if address.most:
        allow(made, address.most)
    return made


class Connections:
    """At most `limit` connections, made on demand; those beyond `keep` go after half a minute without use.

    `guard` is called with a connection at hand, right before what it is wanted for; what it raises keeps that from being done.
    Once `proven`, the address and the well behind it have been good: refused or missing now, they are away, as in a restore or
    while a role's password changes, and no run may pay for that with a try.
    """

    def __init__(self, address: Address, limit: int, keep: int, guard: Callable[[], None] | None = None) -> None:
        self.address = address
        self._guard = guard
        self.limit = limit
        self.keep = keep
        self._idle: list[tuple[Connection, float]] = []
        self._room = asyncio.Semaphore(limit)
        self._open: set[Connection] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._pause = 0.0
        self._again_at = 0.0
        self._met: tuple[type[StoreUnavailable | AddressRefused], str] = (StoreUnavailable, "")
        self._waiting = 0
        self.proven = False

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many are in use, idle, and waited for."""
        return len(self._open) - len(self._idle), len(self._idle), self._waiting

    @asynccontextmanager
    async def use(self, *, retrying: bool = False) -> AsyncGenerator[Connection]:
        """A connection for one statement or transaction; errors come out as the store's own.

        `retrying`: those in RETRIED come out as they are, for the caller sends the statement again.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT):
                await self._room.acquire()
        except TimeoutError as error:
            raise StoreUnavailable("Postgres: all connections are busy") from error
        finally:
            self._waiting -= 1
        try:
            connection = await self._take()
            meter = allow(connection, self.address.most) if self.address.most else None
            try:
                if self._guard is not None:
                    self._guard()
                yield connection
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
                unavailable = self._told(error)
                if isinstance(unavailable, StoreUnavailable) and not isinstance(error, (*RETRIED, asyncpg.LockNotAvailableError)):
                    connection.terminate()
                if meter is not None and meter.left < 0:
                    raise AnswerTooLarge(f"Postgres answers with more than {self.address.most:,} bytes") from None
                if retrying and isinstance(error, RETRIED):
                    raise
                raise unavailable from error
            except BaseException:
                connection.terminate()
                raise
            finally:
                self._give_back(connection)
        finally:
            self._room.release()

    async def close(self) -> None:
        """Close all of them."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        self._idle.clear()
        for connection in list(self._open):
            try:
                await connection.close(timeout=2)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
        self._open.clear()

    async def _take(self) -> Connection:
        while self._idle:
            connection, _since = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._open.discard(connection)
        loop = asyncio.get_running_loop()
        if loop.time() < self._again_at:
            kind, text = self._met
            raise kind(text)  # what the last try to connect has met; the next one comes in a moment
        try:
            connection = await connect(self.address)
        except (StoreUnavailable, AddressRefused) as error:
            # Full jitter, so that a fleet doesn't come back in step.
            self._pause = min(max(self._pause * 2, 0.05), LONGEST_PAUSE)
            self._again_at = loop.time() + self._pause * random.random()  # noqa: S311
            self._met = (StoreUnavailable if self.proven else type(error), str(error))
            if self.proven and isinstance(error, AddressRefused):
                raise StoreUnavailable(str(error)) from error
            raise
        self._pause = 0.0
        self._open.add(connection)
        return connection

    def _told(self, error: Exception) -> Exception:
        if self.proven and isinstance(error, _GONE):
            return StoreUnavailable(f"Postgres: the well is away: {error} ({error.sqlstate})")
        return translated(error)

    def _give_back(self, connection: Connection) -> None:
        if connection.is_closed():
            self._open.discard(connection)
            return
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.time()))
        if len(self._open) > self.keep and self._reaper is None:
            self._reaper = loop.call_later(IDLE, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        loop = asyncio.get_running_loop()
        while self._idle and len(self._open) > self.keep and self._idle[0][1] <= loop.time() - IDLE:
            connection, _since = self._idle.pop(0)
            self._open.discard(connection)
            connection.terminate()
        if self._idle and len(self._open) > self.keep:
            self._reaper = loop.call_later(IDLE, self._reap)
