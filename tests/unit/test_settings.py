"""Settings come from the command line, else the environment, else the default, and are refused with a reason."""

from datetime import timedelta

import pytest

from stepwell.settings import (
    GatewaySettings,
    Given,
    MetricSettings,
    SettingsError,
    StoreSettings,
    client_settings,
    dev_settings,
    gateway_settings,
    is_loopback,
    runner_settings,
    store_settings,
    upkeep,
)


def test_option_beats_environment_beats_default() -> None:
    """An option wins over the environment, the environment over the default."""
    env = {"STEPWELL_STORE": "postgresql://env/db"}
    assert store_settings(env, Given(store="postgresql://given/db"), "x.db").address == "postgresql://given/db"
    assert store_settings(env, Given(db="y.db"), "x.db").address == "y.db"
    assert store_settings(env, Given(), "x.db").address == "postgresql://env/db"
    assert store_settings({}, Given(), "x.db").address == "x.db"
    assert store_settings(env, Given(ephemeral=True)).address == ":memory:"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////a/b.db", "/a/b.db"),
        ("postgres://h/d", "postgres://h/d"),
        ("./a.db", "a.db"),
        (":memory:", ":memory:"),
    ],
)
def test_store_addresses(given: str, address: str) -> None:
    """A store is a Postgres address, a path, or SQLAlchemy's way to write a path."""
    assert store_settings({}, Given(store=given)).address == address


@pytest.mark.parametrize(
    "given",
    [Given(), Given(store="mysql://h/d"), Given(store="a.db", db="b.db"), Given(ephemeral=True, db="b.db")],
)
def test_unclear_stores_are_refused(given: Given) -> None:
    """No store, an unknown kind, or two stores at once are refused."""
    with pytest.raises(SettingsError):
        store_settings({}, given)


def test_secrets_are_not_shown() -> None:
    """Neither the password of a store nor a key is in what is printed or in a repr."""
    store = StoreSettings("postgresql://ada:s3cret@db.example/shop?sslmode=require&password=s3cret")
    assert store.shown == "Postgres db.example/shop"
    assert "s3cret" not in repr(store)
    assert "s3cret" not in repr(GatewaySettings(keys=("s3cret",), event_keys=("s3cret",)))


def test_without_a_key_it_listens_on_loopback_only() -> None:
    """Without a key `dev` takes no host but loopback, and a gateway any, for it lets nobody in; with a key any is fine."""
    assert gateway_settings({}, Given(host="0.0.0.0")).is_guarded
    with pytest.raises(SettingsError, match="STEPWELL_KEY"):
        gateway_settings({}, Given(host="0.0.0.0"), may_be_open=True)
    assert gateway_settings({"STEPWELL_KEY": "k"}, Given(host="0.0.0.0")).host == "0.0.0.0"
    assert gateway_settings({"STEPWELL_EVENT_KEY": "k"}, Given(host="::")).is_guarded


def test_keys_can_be_rotated() -> None:
    """Several keys are separated by commas; blanks and empty ones are dropped."""
    assert gateway_settings({"STEPWELL_KEY": " a, ,b "}, Given()).keys == ("a", "b")
    with pytest.raises(SettingsError):
        gateway_settings({"STEPWELL_KEY": "a/b"}, Given())


@pytest.mark.parametrize("port", ["x", "-1", "70000", "1.5", "٣"])
def test_numbers_are_checked(port: str) -> None:
    """A number that is none, or out of range, is refused by its variable's name."""
    with pytest.raises(SettingsError, match="STEPWELL_PORT"):
        gateway_settings({"STEPWELL_PORT": port}, Given())


def test_runner_settings() -> None:
    """A runner's settings have defaults, and take the environment's and the command line's."""
    plain = runner_settings({}, Given(), ("shop.orders:process",))
    assert (plain.pool, plain.slots, plain.lease, plain.health_port) == ("default", 500, timedelta(seconds=30), None)
    env = {"STEPWELL_POOL": "shop", "STEPWELL_LEASE": "1m", "STEPWELL_HEALTH_PORT": "0", "STEPWELL_FUNCTIONS": "a.py,b.py"}
    told = runner_settings(env, Given(slots=7, grace="5s"), ())
    assert (told.pool, told.slots, told.lease, told.grace) == ("shop", 7, timedelta(minutes=1), timedelta(seconds=5))
    assert (told.health_port, told.functions) == (0, ("a.py", "b.py"))
    with pytest.raises(SettingsError, match="STEPWELL_LEASE"):
        runner_settings({}, Given(lease="1ms"), ())
    with pytest.raises(SettingsError, match="STEPWELL_LEASE"):
        runner_settings({}, Given(lease="soon"), ())


def test_dev_settings_default_to_a_file_of_their_own() -> None:
    """`stepwell dev` keeps its state in .stepwell/dev.db, for seven days."""
    settings = dev_settings({}, Given(), ("orders.py",))
    assert settings.store.address == ".stepwell/dev.db"
    assert settings.upkeep.keep == timedelta(days=7)


def test_upkeep() -> None:
    """Logs are text for eyes and JSON for machines unless said otherwise; odd levels and forms are refused."""
    assert upkeep({"STEPWELL_KEEP": "2d"}, eyes=True).keep == timedelta(days=2)
    assert not upkeep({}, eyes=True).log.json
    assert upkeep({}, eyes=False).log.json
    told = upkeep({"STEPWELL_LOG_LEVEL": "debug", "STEPWELL_LOG_FORMAT": "text"}, eyes=False).log
    assert (told.level, told.json) == ("DEBUG", False)
    for env in ({"STEPWELL_LOG_LEVEL": "loud"}, {"STEPWELL_LOG_FORMAT": "xml"}, {"STEPWELL_KEEP": "1s"}):
        with pytest.raises(SettingsError):
            upkeep(env, eyes=True)


def test_client_settings() -> None:
    """Who calls a gateway uses the option, else the environment, else this machine's."""
    assert client_settings({}, None, None) == ("http://127.0.0.1:8288", None)
    env = {"STEPWELL_URL": "https://a/", "STEPWELL_KEY": "one,two"}
    assert client_settings(env, None, None) == ("https://a", "one")
    assert client_settings(env, "http://b", "three") == ("http://b", "three")
    with pytest.raises(SettingsError):
        client_settings({}, "b:8288", None)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("::", False),
    ],
)
def test_loopback_names(host: str, own: bool) -> None:
    """Only names and addresses of this machine count as loopback."""
    assert is_loopback(host) is own


def test_a_registered_runner_takes_its_functions_from_the_store() -> None:
    """STEPWELL_REGISTERED=1 needs a pool, names no functions, and may name a code file and a termination log."""
    env = {"STEPWELL_REGISTERED": "1", "STEPWELL_POOL": "shop-1", "STEPWELL_CODE": "/c/code.py", "STEPWELL_TERMINATION_LOG": "/t"}
    settings = runner_settings(env, Given(), ())
    assert (settings.registered, settings.pool, settings.code, settings.termination_log) == (True, "shop-1", "/c/code.py", "/t")
    assert not runner_settings({"STEPWELL_REGISTERED": "0", "STEPWELL_CODE": ""}, Given(), ("a.py",)).registered
    with pytest.raises(SettingsError, match="STEPWELL_POOL"):
        runner_settings({"STEPWELL_REGISTERED": "1"}, Given(), ())
    with pytest.raises(SettingsError, match="leave out"):
        runner_settings(env, Given(), ("a.py",))
    with pytest.raises(SettingsError, match="STEPWELL_REGISTERED is 1 or 0"):
        runner_settings({"STEPWELL_REGISTERED": "maybe"}, Given(), ())


def test_the_namespace_of_metrics() -> None:
    """Metrics tell of STEPWELL_NAMESPACE, else of `default`."""
    assert upkeep({"STEPWELL_NAMESPACE": "shop"}, eyes=False).namespace == "shop"
    assert upkeep({}, eyes=False).namespace == "default"


def test_what_metrics_tell_is_a_setting() -> None:
    """Functions whose steps are told apart are named with commas; Inngest's names are a switch, and off."""
    told = upkeep({"STEPWELL_METRICS_STEPS": "orders, mail,", "STEPWELL_METRICS_INNGEST": "1"}, eyes=False).metrics
    assert told == MetricSettings(frozenset({"orders", "mail"}), inngest=True)
    assert upkeep({}, eyes=False).metrics == MetricSettings()
    with pytest.raises(SettingsError, match="STEPWELL_METRICS_INNGEST is 1 or 0"):
        upkeep({"STEPWELL_METRICS_INNGEST": "yes"}, eyes=False)
