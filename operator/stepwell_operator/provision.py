"""Make a namespace's well in a Postgres that we administer: a schema, and a login role that owns it and nothing else."""

import re
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

from stepwell.errors import StepwellError
from stepwell_operator.names import digest

LONGEST = 63
TIMEOUT = 10.0
OUR_PASSWORD = re.compile(r"[A-Za-z0-9_-]{32}")


class ProvisionError(StepwellError):
    """The administrator's Postgres can't be reached, or refuses; the message holds no password."""

    code = "DF0720"


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A well's address, with the password of its role in it."""

    schema: str
    dsn: str


def schema_of(namespace: str, store: str) -> str:
    """The name of a well's schema and role: within 63 bytes, different for different wells (namespaces have no underscore)."""
    name = f"stepwell_{namespace.replace('-', '_')}" + ("" if store == "default" else f"__{store.replace('-', '_')}")
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}_{digest([namespace, store])}"


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


def password_for(dsn: str, admin: str, role: str) -> str | None:
    """The password in an address that we made for this role, in the Postgres that we administer; None for any other address.

    A Secret of a namespace may hold anything: what isn't such a password never gets into a statement.
    """
    parts, ours = urlsplit(dsn), urlsplit(admin)
    there = (parts.netloc.rpartition("@")[2], parts.path, parts.username)
    if there != (ours.netloc.rpartition("@")[2], ours.path, role) or not OUR_PASSWORD.fullmatch(parts.password or ""):
        return None
    return parts.password


async def provision(admin: str, namespace: str, store: str, password: str | None = None) -> Provisioned:
    """Make the role and its schema, or take over those that are there; raise ProvisionError.

    The role gets this password, a new one without: one that is in use already outlives the loss of the role so.
    """
    name = schema_of(namespace, store)
    password = password or secrets.token_urlsafe(24)
    connection = await _connect(admin)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 11))", name)
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
    return Provisioned(name, with_schema(as_role(admin, name, password), name))


async def _connect(admin: str) -> Any:
    parts = urlsplit(admin)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in {"schema", "pooler", "reads"}]
    try:
        connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return await connect(urlunsplit(parts._replace(query=urlencode(query))), timeout=TIMEOUT, command_timeout=TIMEOUT)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        text = str(error) or type(error).__name__
        shown = text.replace(parts.password, "***") if parts.password else text
        raise ProvisionError(f"the administrator's Postgres can't be used: {shown}") from None
