"""Make a namespace's well in a Postgres that we administer: a schema, and a login role that owns it and nothing else."""

import re
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

from stepwell.errors import StepwellError, StoreError
from stepwell.store.postgres.connect import parse_address
from stepwell_operator.names import digest
from stepwell_operator.target import DEFAULT_STORE

LONGEST = 63
TIMEOUT = 10.0
WHO = frozenset({"user", "password", "passfile", "sslpassword"})
"""Parameters of an address that would carry the administrator's own secrets into every namespace."""
SHORTENED = re.compile("_[0-9a-f]{8}$")
OUR_PASSWORD = re.compile(r"[A-Za-z0-9_-]{32}")


class ProvisionError(StepwellError):
    """The administrator's Postgres can't be reached, or refuses; the message holds no password."""

    code = "DF0720"


class AdministratorAway(ProvisionError):
    """No connection to the administrator's Postgres, or none for this user and password."""


class WellMissing(ProvisionError):
    """The administrator's Postgres answers, and hasn't the schema of a well that is to move there."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A well's address, with the password of its role in it; `place`: where the address leads that it was made from."""

    dsn: str
    place: str


def schema_of(namespace: str) -> str:
    """The name of a namespace's schema and role, within 63 bytes; only hashes of 32 bits that are equal give two the same."""
    # Namespaces have no underscore, so a name that isn't shortened is of one alone, unless it looks like one that is.
    name = f"stepwell_{namespace.replace('-', '_')}"
    if len(name) < LONGEST or (len(name) == LONGEST and not SHORTENED.search(name)):
        return name
    return f"{name[: LONGEST - 9]}_{digest([namespace, DEFAULT_STORE])}"


def with_schema(dsn: str, schema: str) -> str:
    """The address with `schema` in its query."""
    parts = urlsplit(dsn)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "schema"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("schema", schema)])))


def as_role(dsn: str, role: str, password: str) -> str:
    """The address with another user."""
    parts = urlsplit(dsn)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:{quote(password, safe='')}@{place}"))


def place_of(admin: str) -> str:
    """A short hash of where an address leads, with what parameters, but not who asks there; raise ProvisionError."""
    _driver_address(admin)
    return _place(urlsplit(admin))


def is_as_made(made: Provisioned, role: str) -> bool:
    """Whether an address still leads to where it was made from, and to the role's schema there: nobody edited it since."""
    try:
        parts = urlsplit(made.dsn)
    except ValueError:
        return False
    return _place(parts) == made.place and dict(parse_qsl(parts.query)).get("schema") == role


def our_password(dsn: str, role: str) -> str | None:
    """The password in an address that we made for this role, wherever it leads; None for any other address.

    A Secret of a namespace may hold anything: what isn't such a password never gets into a statement.
    """
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return None
    return parts.password if parts.username == role and OUR_PASSWORD.fullmatch(parts.password or "") else None


def password_for(dsn: str, admin: str, role: str) -> str | None:
    """The password in an address that we made for this role, in the Postgres that we administer; None for any other address."""
    try:
        parts, ours = urlsplit(dsn), urlsplit(admin)
    except ValueError:
        return None
    if (parts.netloc.rpartition("@")[2], parts.path) != (ours.netloc.rpartition("@")[2], ours.path):
        return None
    return our_password(dsn, role)


def address_for(admin: str, role: str, password: str) -> str:
    """The address of a role's well in the Postgres that we administer."""
    return with_schema(as_role(admin, role, password), role)


async def provision(admin: str, namespace: str, password: str | None = None, *, moved: bool = False) -> Provisioned:
    """Make a namespace's role and its schema, or take over those that are there; raise ProvisionError.

    The role gets this password, a new one without: one that is in use already outlives the loss of the role so. `moved`: the well
    is there already, with all that is in it, so without its schema nothing is made.
    """
    name, place = schema_of(namespace), place_of(admin)
    password = password or secrets.token_urlsafe(24)
    connection = await _connect(admin)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 11))", name)
            if moved and await connection.fetchval("select to_regnamespace($1) is null", name):
                raise WellMissing(
                    f"the administrator's address leads to another Postgres, without a schema {name!r}: restore it there, "
                    "or delete this namespace's Secret with the well's address to begin with an empty one"
                )
            there = await connection.fetchval("select true from pg_roles where rolname = $1", name)
            if there:  # who isn't a superuser may change the password, and no other attribute
                await connection.execute(f"alter role \"{name}\" login password '{password}'")
            else:
                limits = "nosuperuser nocreatedb nocreaterole"
                await connection.execute(f"create role \"{name}\" login {limits} password '{password}'")
            # Who isn't a superuser has to be a member of a role to make a schema for it.
            await connection.execute(f'grant "{name}" to current_user')
            await connection.execute(f'create schema if not exists "{name}" authorization "{name}"')
            await connection.execute(f'revoke all on schema "{name}" from public')
    except asyncpg.PostgresError as error:
        raise ProvisionError(f"Postgres refused to make role and schema {name!r}: {error}") from None
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise ProvisionError(f"the administrator's Postgres went away: {type(error).__name__}") from None
    finally:
        connection.terminate()
    return Provisioned(address_for(admin, name, password), place)


async def reach(admin: str) -> None:
    """Raise AdministratorAway unless the administrator's Postgres takes a connection."""
    (await _connect(admin)).terminate()


async def _connect(admin: str) -> Any:
    dsn, parts = _driver_address(admin), urlsplit(admin)
    try:
        connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return await connect(dsn, timeout=TIMEOUT, command_timeout=TIMEOUT)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        text = str(error) or type(error).__name__
        shown = text.replace(parts.password, "***") if parts.password else text
        raise AdministratorAway(f"the administrator's Postgres can't be used: {shown}") from None


def _place(parts: SplitResult) -> str:
    query = sorted((name, value) for name, value in parse_qsl(parts.query) if name != "schema")
    return digest([parts.netloc.rpartition("@")[2], parts.path, query])


def _driver_address(admin: str) -> str:
    """The administrator's address without what is ours in it."""
    try:
        dsn = parse_address(admin).dsn
    except StoreError as error:
        raise ProvisionError(f"the administrator's address can't be used: {error}") from None
    query = parse_qsl(urlsplit(admin).query, keep_blank_values=True)
    if found := sorted({name.lower() for name, _ in query} & WHO):
        raise ProvisionError(
            f"the administrator's address has {', '.join(found)} in its query, and so would the address of every namespace: "
            "in the operator's Secret (store.adminSecret), key 'dsn', put user and password before the @, as in "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and leave these parameters out"
        )
    return dsn
