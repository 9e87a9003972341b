"""Where a namespace's well lies: the Secrets with its address and its gateway's keys, and the role behind them."""

import base64
import secrets
from collections.abc import Callable, Iterable

import orjson
import structlog

from stepwell.errors import SpecError
from stepwell.spec.durable_store import DurableStoreSpec, parse_store
from stepwell.store.postgres.connect import ADDRESS_FORM
from stepwell_operator.cluster import SECRET, STORE, Cluster, Conflict, Document
from stepwell_operator.following import Following
from stepwell_operator.names import GATEWAY_SECRET, PLACE, STORE_SECRET, labels
from stepwell_operator.provision import Provisioned, ProvisionError, password_for, provision, schema_of, with_schema
from stepwell_operator.resources.gateway import named, secret
from stepwell_operator.settings import Settings
from stepwell_operator.settling import Owners, uids
from stepwell_operator.target import DEFAULT_STORE
from stepwell_operator.world import Seen, listed, mapping


class Unready(Exception):
    """A well has no usable address; `reason` is one of `StoreReady`'s."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Addresses:
    """The addresses of wells, made where there is none yet."""

    def __init__(self, cluster: Cluster, settings: Settings, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._settings = settings
        self._following = Following(clock)
        self._log = structlog.get_logger("stepwell.operator")

    async def find(self, namespace: str, store: str, spec: Seen | None, owners: Owners) -> str:
        """The well's address: out of the user's Secret, out of ours, or newly made; Unready, ProvisionError."""
        name = named(STORE_SECRET, store)
        ours = await self._cluster.get(SECRET, namespace, name)
        if spec is not None:
            wanted = Provisioned(await self._users_address(namespace, spec), "")
        elif (there := _there(ours)) is not None:
            # Whoever may write Secrets here names other stores as he likes: in our Postgres only `default` is this namespace's.
            wanted = await self._followed(namespace, there) if store == DEFAULT_STORE else there
        else:
            wanted = await self._provision(namespace, store)
        if not _holds(ours, wanted) or not owners.are(_owners_there(ours)):
            await self._cluster.apply(secret(namespace, name, {"dsn": wanted.dsn}, owners.wanted, wanted.place))
        await self._keys(namespace, store, owners)
        return wanted.dsn

    async def take_back(self, namespace: str, store: str, dsn: str) -> bool:
        """Make the role or the schema of an address of ours again, lost with its server or in a restore; whether it is ours.

        The password stays the one in the Secret, so no pod has to learn another. Only `default` is ever made by us.
        """
        admin = await self._administrator() if store == DEFAULT_STORE else None
        password = password_for(dsn, admin, schema_of(namespace)) if admin is not None else None
        if admin is None or password is None:
            return False
        await provision(admin, namespace, password)
        self._log.warning("made a well's role and schema again", namespace=namespace, store=store)
        return True

    def held(self, namespace: str, store: str) -> str:
        """Why a well doesn't follow the administrator's address, if something is in its way."""
        return self._following.held(namespace) if store == DEFAULT_STORE else ""

    def forget(self, namespace: str, store: str) -> None:
        """Nobody uses this well any more."""
        if store == DEFAULT_STORE:
            self._following.forget(namespace)

    async def _followed(self, namespace: str, there: Provisioned) -> Provisioned:
        """The address that is there, or one of the same role where the administrator's leads by now; raise WellMissing."""
        try:
            admin = await self._administrator()
        except ProvisionError as error:
            self._following.stay("", namespace, error)
            return there
        return await self._following.follow(admin, namespace, there)

    async def _administrator(self) -> str | None:
        """The administrator's address, if there is one; ProvisionError if it is no text."""
        name = self._settings.admin_secret
        found = await self._cluster.get(SECRET, self._settings.namespace, name) if name else None
        self._cluster.to_write()  # whoever asks for the address goes on to make a role or a schema
        try:
            return _read(found, "dsn")
        except UnicodeDecodeError:
            raise ProvisionError(f"the operator's Secret {name!r} has a key 'dsn' that is no UTF-8 text") from None

    async def _users_address(self, namespace: str, spec: Seen) -> str:
        given = _store_spec(spec)
        name, key = given.secret_ref.name, given.secret_ref.key
        found = _text(await self._cluster.get(SECRET, namespace, name), key)
        if found is None:
            raise Unready(
                "SecretNotFound", f"DurableStore {spec.name!r} names Secret {name!r} with key {key!r}, which is not there"
            )
        try:
            return with_schema(found, given.schema) if given.schema else found
        except ValueError:  # its text would hold the address
            raise Unready("Unreachable", f"the address in Secret {name!r}, key {key!r}, can't be read; {ADDRESS_FORM}") from None

    async def _provision(self, namespace: str, store: str) -> Provisioned:
        admin = self._settings.admin_secret
        if store != DEFAULT_STORE:
            raise Unready("StoreNotFound", f"there is no DurableStore {store!r} in this namespace")
        if not admin:
            raise Unready(
                "SecretNotFound",
                "the operator has no administrator's Secret: make a DurableStore 'default' here, or set store.adminSecret",
            )
        found = await self._administrator()
        if found is None:
            raise Unready("SecretNotFound", f"the operator's Secret {admin!r} with key 'dsn' is not there")
        return await provision(found, namespace)

    async def _keys(self, namespace: str, store: str, owners: Owners) -> None:
        """The gateway's keys, made once and then left alone."""
        name = named(GATEWAY_SECRET, store)
        there = await self._cluster.get(SECRET, namespace, name)
        if there is None:
            document = secret(namespace, name, {"key": _key(), "event-key": _key()}, owners.wanted)
            try:
                await self._cluster.create(SECRET, namespace, document)
            except Conflict:
                return
        elif not owners.are(_owners_there(there)):
            # Somebody may have put it there, from a backup say: by our labels the next backup finds it.
            version = there["metadata"]["resourceVersion"]
            metadata = {"ownerReferences": owners.wanted, "labels": labels("store"), "resourceVersion": version}
            await self._cluster.merge(SECRET, namespace, name, {"metadata": metadata})


def _store_spec(seen: Seen) -> DurableStoreSpec:
    document = {
        "apiVersion": STORE.api_version,
        "kind": STORE.kind,
        "metadata": {"name": seen.name},
        "spec": orjson.loads(seen.spec),
    }
    try:
        return parse_store(document, f"DurableStore {seen.name!r}").spec
    except SpecError as error:
        raise Unready("InvalidStore", str(error)[:1000]) from None


def _there(document: Document | None) -> Provisioned | None:
    dsn = _text(document, "dsn")
    return Provisioned(dsn, _place(document)) if dsn is not None else None


def _holds(document: Document | None, wanted: Provisioned) -> bool:
    """Whether a Secret is as we would write it; it may be no text at all."""
    data = mapping(mapping(document).get("data")).get("dsn")
    return data == base64.b64encode(wanted.dsn.encode()).decode() and _place(document) == wanted.place


def _text(document: Document | None, key: str) -> str | None:
    """What a Secret of a namespace has under a key; Unready if that is no text."""
    try:
        return _read(document, key)
    except ValueError:
        name = mapping(mapping(document).get("metadata")).get("name")
        raise Unready("Unreachable", f"the address in Secret {name!r}, key {key!r}, is no UTF-8 text") from None


def _read(document: Document | None, key: str) -> str | None:
    data = mapping(mapping(document).get("data"))
    return base64.b64decode(data[key]).decode() if key in data else None


def _place(document: Document | None) -> str:
    return str(mapping(mapping(mapping(document).get("metadata")).get("annotations")).get(PLACE, ""))


def _owners_there(document: Document | None) -> Iterable[str]:
    return uids(listed(mapping(mapping(document).get("metadata")).get("ownerReferences")))


def _key() -> str:
    return secrets.token_urlsafe(24)
