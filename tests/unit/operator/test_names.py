"""Names, labels and hashes: within Kubernetes' bounds, and the same from release to release."""

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given
from unit.operator.observations import target_at

from stepwell_operator.names import POOL_ID, digest, labels, pool_id, revision_of
from stepwell_operator.provision import (
    Provisioned,
    ProvisionError,
    address_for,
    is_as_made,
    our_password,
    password_for,
    place_of,
    schema_of,
)
from stepwell_operator.resources.gateway import named

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
POOLS = st.from_regex(r"\A[a-z0-9]([-a-z0-9.]{0,50}[a-z0-9])?\Z")
NAMESPACES = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
LONG_NAMESPACES = st.from_regex(r"\A[a-z0-9][-a-z0-9]{53,61}[a-z0-9]\Z")
TEXT = st.text(st.characters(codec="utf-8"))
STORES = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?\Z")
POD_SUFFIX = len("-6d4b75cb6d-abcde")


@given(pool=POOLS, code=TEXT, pod=st.dictionaries(TEXT, TEXT))
def test_a_pool_id_is_a_label_with_room_for_the_pods_suffix(pool: str, code: str, pod: dict[str, str]) -> None:
    """A Deployment's name, its ConfigMap's and its Pods' are valid names and labels of at most 63 characters."""
    made = pool_id(pool, {"kind": "inline", "text": code}, pod)
    assert LABEL.fullmatch(made), made
    assert len(made) + POD_SUFFIX <= 63
    assert LABEL.fullmatch(f"{made}-code")
    assert all(len(value) <= 63 for value in labels("runner", pool_id=made).values())


@given(namespace=NAMESPACES)
def test_a_schemas_name_needs_no_escaping(namespace: str) -> None:
    """A schema's name is a Postgres identifier."""
    assert re.fullmatch(r"[a-z0-9_]{1,63}", schema_of(namespace))


@given(namespace=LONG_NAMESPACES, rest=st.from_regex(r"\A[-a-z0-9]{8}[a-z0-9]\Z"))
def test_wells_have_schemas_of_their_own(namespace: str, rest: str) -> None:
    """No namespace's schema is another's: not where it is named like the other's schema, nor where it begins as the other does."""
    there = schema_of(namespace)
    others = {there.removeprefix("stepwell_").replace("_", "-"), namespace[:54], namespace[:53] + "x", namespace[:54] + rest}
    for other in others - {namespace}:
        assert schema_of(other) != there


ADMIN = "postgresql://admin:secret@h:5432/stepwell?reads=2"
OURS = "Ab3_-" * 6 + "xy"


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        (f"postgresql://stepwell_a:{OURS}@h:5432/stepwell?schema=stepwell_a", OURS),
        (f"postgresql://stepwell_b:{OURS}@h:5432/stepwell", None),
        (f"postgresql://stepwell_a:{OURS}@pooler:6432/stepwell", None),
        (f"postgresql://stepwell_a:{OURS}@h:5432/other", None),
        ("postgresql://stepwell_a@h:5432/stepwell", None),
        ("postgresql://stepwell_a:short@h:5432/stepwell", None),
        (f"postgresql://stepwell_a:{OURS}@[::1/stepwell", None),
        (f"postgresql://stepwell_a:{OURS[:-13]}'%20superuser--@h:5432/stepwell", None),
    ],
)
def test_a_password_is_kept_only_of_an_address_of_ours(dsn: str, expected: str | None) -> None:
    """Of an address in a namespace's Secret only a password that we made, for our role and our Postgres, is used again."""
    assert password_for(dsn, ADMIN, "stepwell_a") == expected


def test_a_password_of_ours_is_known_wherever_its_address_leads() -> None:
    """A well that moves keeps the password that we made for its role; of any other address nothing is kept."""
    assert our_password(f"postgresql://stepwell_a:{OURS}@pooler:6432/other", "stepwell_a") == OURS
    for other in (f"postgresql://ada:{OURS}@h/d", "postgresql://stepwell_a:short@h/d", "postgresql://stepwell_a@[::1/d", "x"):
        assert our_password(other, "stepwell_a") is None


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("postgresql://root:other@h:5432/stepwell?reads=2", True),
        ("postgresql://admin:secret@moved:5432/stepwell?reads=2", False),
        ("postgresql://admin:secret@h:6432/stepwell?reads=2", False),
        ("postgresql://admin:secret@h:5432/other?reads=2", False),
        ("postgresql://admin:secret@h:5432/stepwell?reads=2&sslmode=verify-full", False),
    ],
)
def test_a_place_is_where_an_address_leads(other: str, same: bool) -> None:
    """Server, port, database and parameters make a place; who asks there, and with what password, doesn't."""
    assert (place_of(other) == place_of(ADMIN)) is same


@pytest.mark.parametrize("admin", ["secret", "postgresql://u:se/cret@h/d", "postgresql://u:secret@[::1/d"])
def test_an_administrators_address_that_can_not_be_read_is_told_without_it(admin: str) -> None:
    """The message says what an address looks like, and nothing of what this one is."""
    with pytest.raises(ProvisionError, match="the administrator's address can't be used") as told:
        place_of(admin)
    assert "cret" not in str(told.value)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("user=ada", "user"),
        ("sslmode=require&password=cret", "password"),
        ("p%61ssword=cret&USER=cret", "password, user"),
        ("sslpassword=cret", "sslpassword"),
        ("passfile=cret", "passfile"),
        ("password=", "password"),
    ],
)
def test_an_administrators_secrets_stand_before_the_at(query: str, said: str) -> None:
    """A password in the query would be copied into every namespace: it is refused, with what to do, and not repeated."""
    with pytest.raises(ProvisionError, match=rf"has {said} in its query.*put user and password before the @") as told:
        place_of(f"postgresql://admin:secret@h:5432/stepwell?{query}")
    assert "cret" not in str(told.value).replace("Secret", "")


@pytest.mark.parametrize(
    ("edited", "same"),
    [
        (address_for(ADMIN, "stepwell_a", OURS), True),
        (address_for(ADMIN, "stepwell_a", OURS).replace("h:5432", "pooler:6432"), False),
        (address_for(ADMIN, "stepwell_a", OURS) + "&pooler=1", False),
        (address_for(ADMIN, "stepwell_b", OURS), False),
        (f"postgresql://stepwell_a:{OURS}@h:5432/stepwell?reads=2", False),
        ("postgresql://stepwell_a@[::1/d", False),
    ],
)
def test_an_edited_address_is_known(edited: str, same: bool) -> None:
    """An address leads where it was made from, to its role's schema, with the same parameters, or somebody has edited it."""
    assert is_as_made(Provisioned(edited, place_of(ADMIN)), "stepwell_a") is same


def test_an_administrators_schema_is_no_part_of_a_place() -> None:
    """Wells have schemas of their own, so an administrator's address with one makes addresses that are known again."""
    admin = f"{ADMIN}&schema=mine"
    assert is_as_made(Provisioned(address_for(admin, "stepwell_a", OURS), place_of(admin)), "stepwell_a")


@given(store=STORES)
def test_a_gateways_name_is_a_label(store: str) -> None:
    """The gateway's Service is named within 63 characters, whatever the store is called."""
    assert LABEL.fullmatch(named("stepwell-gateway", store))


@given(value=st.dictionaries(TEXT, st.integers(-(2**53), 2**53)))
def test_a_digest_does_not_depend_on_order(value: dict[str, int]) -> None:
    """Equal values have equal digests, however they were put together."""
    assert digest(value) == digest(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (digest({"b": 1, "a": [True, None, "ß"]}), "a2ff3f77"),
        (target_at(1).pool_id, "one-8a312340"),
        (target_at(1).revision, "cc92c85a"),
        (target_at(1, onFailure="tidy").revision, "44c86ea8"),
        (target_at(1, runner={"pool": "shared", "env": [{"name": "A", "value": "1"}]}).pool_id, "shared-d07976e4"),
        (pool_id("a.b", {"kind": "image", "image": "registry/shop:1.4"}, {}), "a-b-dd67eb91"),
        (pool_id("n" * 52, {"kind": "image", "image": "registry/shop:1.4"}, {}), "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn-e599ac91"),
        (revision_of("one-12345678", "main", None), "38412160"),
        (schema_of("shop-eu"), "stepwell_shop_eu"),
        (schema_of("n" * 54), "stepwell_nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"),
        (schema_of("n" * 63), "stepwell_nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn_60595cef"),
    ],
)  # fmt: skip
def test_hashes_are_the_same_in_every_release(made: str, expected: str) -> None:
    """A new release makes no new names: every runner in every cluster would be replaced, and every well left behind."""
    assert made == expected


def test_labels_carry_what_selects_pods() -> None:
    """Underscores of our names become dashes, and the component is a recommended label."""
    made = labels("runner", pool="shop", pool_id="shop-1")
    assert made[POOL_ID] == "shop-1"
    assert made["app.kubernetes.io/component"] == "runner"
