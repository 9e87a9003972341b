"""Configuration: read here and nowhere else. A command's option wins over the environment, the environment over the default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from stepwell.errors import SpecError, StepwellError

PORT = 8288
URL = f"http://127.0.0.1:{PORT}"
DEV_STORE = ".stepwell/dev.db"
LOOPBACK_NAMES = frozenset({"localhost", "localhost.", "ip6-localhost"})
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_DOTS = 2
"""A JSON Web Token has three parts."""

POSTGRES = ("postgresql://", "postgres://")


class SettingsError(StepwellError):
    """A setting is missing or wrong; the message names the option and the variable."""

    code = "DF0601"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Which well: a `postgresql://` address, the path of an SQLite file, or `:memory:`. The address may hold a password."""

    address: str = field(repr=False)

    @property
    def is_postgres(self) -> bool:
        """Whether the well lies in Postgres."""
        return self.address.startswith(POSTGRES)

    @property
    def shown(self) -> str:
        """The address without what is secret in it, to print."""
        if not self.is_postgres:
            return "SQLite in memory" if self.address == ":memory:" else f"SQLite {self.address}"
        rest = self.address.partition("://")[2].partition("?")[0]
        return f"Postgres {rest.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Where tokens are reviewed: the API server, the folder with our own token and its `ca.crt`; what tokens are for."""

    url: str
    account: Path
    namespace: str
    audience: str = "stepwell"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where the gateway listens and who may ask. `keys` open every route, `event_keys` only `POST /e/{key}`.

    `open`: where neither is set nobody is asked, and it listens on loopback only. Else only a key of the store lets in.
    `wrong_guesses`: so many wrong keys or tokens may come from one address at once, one more every two seconds; 0 is no limit.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    keys: tuple[str, ...] = field(default=(), repr=False)
    event_keys: tuple[str, ...] = field(default=(), repr=False)
    tokens: TokenSettings | None = None
    open: bool = False
    max_in_flight: int = 1000
    events_per_second: int = 0
    wrong_guesses: int = 30
    body_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not self.is_guarded and not is_loopback(self.host):
            raise SettingsError(
                f"without a key dev listens on loopback only, not on {self.host!r}: "
                "set STEPWELL_KEY (or --key), or use --host 127.0.0.1"
            )

    @property
    def is_guarded(self) -> bool:
        """Whether a key is asked for."""
        return not self.open or bool(self.keys or self.event_keys or self.tokens)


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """What one runner executes, how much at once, and for how long its lease and its farewell last.

    `registered`: what is registered for its pool, with the code in the file `code` or else in what it can import; it registers
    nothing itself. `termination_log` is a file for the reason why it could not start.
    """

    functions: tuple[str, ...]
    pool: str = "default"
    slots: int = 500
    lease: timedelta = timedelta(seconds=30)
    grace: timedelta = timedelta(seconds=20)
    health_host: str = "127.0.0.1"
    health_port: int | None = None
    registered: bool = False
    code: str | None = None
    termination_log: str | None = None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How much is logged, whether as JSON lines rather than for eyes, and in which pod."""

    level: str = "INFO"
    json: bool = True
    pod: str = ""


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Whether spans are sent, of which part of the runs, and how many may wait to be sent."""

    on: bool = False
    ratio: float = 1.0
    queue: int = 4096


@dataclass(frozen=True, slots=True)
class MetricSettings:
    """`steps` are the functions whose steps have series of their own; `inngest` shows Inngest's names beside ours."""

    steps: frozenset[str] = frozenset()
    inngest: bool = False


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What every process needs: its logs and traces, how long history is kept, and what its metrics tell, of which namespace."""

    log: LogSettings
    keep: timedelta
    namespace: str = "default"
    metrics: MetricSettings = field(default_factory=MetricSettings)
    traces: TraceSettings = TraceSettings()


@dataclass(frozen=True, slots=True)
class DevSettings:
    """All parts in one process."""

    store: StoreSettings
    gateway: GatewaySettings
    runner: RunnerSettings
    upkeep: Upkeep


@dataclass(frozen=True, slots=True)
class Given:
    """What was typed on the command line; None where nothing was."""

    store: str | None = None
    db: str | None = None
    ephemeral: bool = False
    host: str | None = None
    port: int | None = None
    key: str | None = None
    pool: str | None = None
    slots: int | None = None
    lease: str | None = None
    grace: str | None = None
    health_port: int | None = None


def store_settings(env: Mapping[str, str], given: Given, default: str | None = None) -> StoreSettings:
    """The store: `--store`, `--db`, `--ephemeral`, STEPWELL_STORE, else the default; SettingsError if there is none."""
    if given.ephemeral:
        if given.store or given.db:
            raise SettingsError("--ephemeral keeps nothing: leave out --store and --db")
        return StoreSettings(":memory:")
    if given.store and given.db:
        raise SettingsError("--store and --db name two stores: leave one out")
    address = given.store or given.db or env.get("STEPWELL_STORE") or default
    if not address:
        raise SettingsError("no store: give --store postgresql://… (or the path of an SQLite file), or set STEPWELL_STORE")
    return StoreSettings(_address(address))


def gateway_settings(env: Mapping[str, str], given: Given, *, may_be_open: bool = False) -> GatewaySettings:
    """The gateway's settings; keys may be several, separated by commas, so that they can be rotated."""
    return GatewaySettings(
        host=given.host or env.get("STEPWELL_HOST") or "127.0.0.1",
        port=given.port if given.port is not None else _whole(env, "STEPWELL_PORT", PORT, 0, 65_535),
        keys=_keys(given.key if given.key is not None else env.get("STEPWELL_KEY", ""), "STEPWELL_KEY"),
        event_keys=_keys(env.get("STEPWELL_EVENT_KEY", ""), "STEPWELL_EVENT_KEY"),
        tokens=_tokens(env),
        open=may_be_open,
        max_in_flight=_whole(env, "STEPWELL_MAX_IN_FLIGHT", 1000, 1, 1_000_000),
        events_per_second=_whole(env, "STEPWELL_EVENTS_PER_SECOND", 0, 0, 10_000_000),
        wrong_guesses=_whole(env, "STEPWELL_WRONG_GUESSES", 30, 0, 1_000_000),
    )


def _tokens(env: Mapping[str, str]) -> TokenSettings | None:
    """STEPWELL_KUBERNETES_TOKENS=1: tokens are let in by what the API server says of them."""
    if not _flag(env, "STEPWELL_KUBERNETES_TOKENS"):
        return None
    url = env.get("STEPWELL_KUBERNETES_API") or _api_server(env)
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise SettingsError(
            "STEPWELL_KUBERNETES_TOKENS=1 needs an API server to ask: "
            "run in a pod, or set STEPWELL_KUBERNETES_API to its https:// address"
        )
    account = Path(env.get("STEPWELL_KUBERNETES_ACCOUNT") or SERVICE_ACCOUNT)
    return TokenSettings(
        url.rstrip("/"),
        account,
        env.get("STEPWELL_NAMESPACE") or "default",
        env.get("STEPWELL_TOKEN_AUDIENCE") or "stepwell",
    )


def _api_server(env: Mapping[str, str]) -> str:
    host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT") or "443"
    if not host:
        return ""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def runner_settings(env: Mapping[str, str], given: Given, functions: tuple[str, ...]) -> RunnerSettings:
    """The runner's settings; `functions` are paths or `module:attribute`."""
    functions = functions or tuple(part for part in env.get("STEPWELL_FUNCTIONS", "").split(",") if part)
    registered = _flag(env, "STEPWELL_REGISTERED")
    pool = given.pool or env.get("STEPWELL_POOL")
    if registered and functions:
        raise SettingsError(
            "STEPWELL_REGISTERED=1 runs what is registered for the pool: leave out --functions and STEPWELL_FUNCTIONS"
        )
    if registered and not pool:
        raise SettingsError("STEPWELL_REGISTERED=1 needs the pool whose functions it runs: set STEPWELL_POOL (or --pool)")
    health_port = given.health_port if given.health_port is not None else _whole(env, "STEPWELL_HEALTH_PORT", -1, 0, 65_535)
    return RunnerSettings(
        functions=functions,
        pool=pool or "default",
        slots=given.slots if given.slots is not None else _whole(env, "STEPWELL_SLOTS", 500, 1, 100_000),
        lease=_length(given.lease or env.get("STEPWELL_LEASE") or "30s", "STEPWELL_LEASE", 3.0),
        grace=_length(given.grace or env.get("STEPWELL_GRACE") or "20s", "STEPWELL_GRACE", 0.0),
        health_host=env.get("STEPWELL_HEALTH_HOST") or "127.0.0.1",
        health_port=health_port if health_port >= 0 else None,
        registered=registered,
        code=env.get("STEPWELL_CODE") or None,
        termination_log=env.get("STEPWELL_TERMINATION_LOG") or None,
    )


def dev_settings(env: Mapping[str, str], given: Given, paths: tuple[str, ...]) -> DevSettings:
    """Settings of `stepwell dev`: the SQLite file `.stepwell/dev.db` unless another store is named."""
    return DevSettings(
        store=store_settings(env, given, DEV_STORE),
        gateway=gateway_settings(env, given, may_be_open=True),
        runner=runner_settings(env, given, paths),
        upkeep=upkeep(env, eyes=True),
    )


def upkeep(env: Mapping[str, str], *, eyes: bool) -> Upkeep:
    """Logs (STEPWELL_LOG_LEVEL, STEPWELL_LOG_FORMAT: `text` where `eyes` look on), STEPWELL_KEEP, STEPWELL_NAMESPACE, metrics."""
    level = env.get("STEPWELL_LOG_LEVEL", "INFO").upper()
    if level not in LEVELS:
        raise SettingsError(f"STEPWELL_LOG_LEVEL is one of {', '.join(LEVELS)}, not {level!r}")
    form = env.get("STEPWELL_LOG_FORMAT") or ("text" if eyes else "json")
    if form not in {"json", "text"}:
        raise SettingsError(f"STEPWELL_LOG_FORMAT is json or text, not {form!r}")
    kept = _length(env.get("STEPWELL_KEEP") or "7d", "STEPWELL_KEEP", 3600.0, 10 * 366 * 86_400.0)
    steps = (part.strip() for part in env.get("STEPWELL_METRICS_STEPS", "").split(","))
    metrics = MetricSettings(frozenset(part for part in steps if part), _flag(env, "STEPWELL_METRICS_INNGEST"))
    log = LogSettings(level, form == "json", pod_name(env))
    return Upkeep(log, kept, env.get("STEPWELL_NAMESPACE") or "default", metrics, trace_settings(env))


def trace_settings(env: Mapping[str, str]) -> TraceSettings:
    """OpenTelemetry's own variables: OTEL_TRACES_EXPORTER, OTEL_TRACES_SAMPLER_ARG, OTEL_BSP_MAX_QUEUE_SIZE, OTEL_SDK_DISABLED.

    The exporter reads where to send, and with which headers and certificates, by itself.
    """
    exporter = env.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter not in {"", "none", "otlp"}:
        raise SettingsError(f"OTEL_TRACES_EXPORTER is otlp or none, not {exporter!r}")
    disabled = env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    text = env.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG is the part of the runs to trace, from 0 to 1, not {text!r}")
    return TraceSettings(exporter == "otlp" and not disabled, ratio, _whole(env, "OTEL_BSP_MAX_QUEUE_SIZE", 4096, 1, 1_000_000))


def pod_name(env: Mapping[str, str]) -> str:
    """The name of the pod that this process runs in, empty outside of one: a pod's host name is its own."""
    return env.get("HOSTNAME", "") if "KUBERNETES_SERVICE_HOST" in env else ""


def client_settings(env: Mapping[str, str], url: str | None, key: str | None) -> tuple[str, str | None]:
    """The gateway's address and key for those who call it: option, STEPWELL_URL and STEPWELL_KEY, else this machine's."""
    address = (url or env.get("STEPWELL_URL") or URL).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise SettingsError(f"{address!r} is no address: it begins with http:// or https:// (--url, STEPWELL_URL)")
    first = (key if key is not None else env.get("STEPWELL_KEY", "")).split(",")[0].strip()
    return address, first or None


def path_key(key: str | None) -> str:
    """What stands for the key in `/e/{key}`: an event key; a token, which no proxy should log, goes in the header."""
    return "none" if not key or key.count(".") == TOKEN_DOTS else key


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without port, means this machine only."""
    name = host.strip("[]").lower()
    if name in LOOPBACK_NAMES:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _address(text: str) -> str:
    if text.startswith(POSTGRES) or text == ":memory:":
        return text
    scheme, separator, rest = text.partition("://")
    if not separator:
        return str(Path(text))
    if scheme == "sqlite" and rest.startswith("/"):
        return rest[1:] or ":memory:"
    raise SettingsError(f"{scheme}:// is no store: give postgresql://user@host/database or the path of an SQLite file")


def _keys(text: str, name: str) -> tuple[str, ...]:
    keys = tuple(part.strip() for part in text.split(",") if part.strip())
    if any(not key.isascii() or not key.isprintable() or "/" in key or " " in key for key in keys):
        raise SettingsError(f"a key in {name} has printable ASCII only, no blank and no slash")
    return keys


def _flag(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").strip().lower()
    if text not in {"", "0", "1", "true", "false"}:
        raise SettingsError(f"{name} is 1 or 0, not {text!r}")
    return text in {"1", "true"}


def _whole(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"{name} is a whole number from {least} to {most}")
    return int(text)


def _length(text: str, name: str, least: float, most: float = 86_400.0) -> timedelta:
    from stepwell.spec.duration import parse_duration  # noqa: PLC0415  # it brings pydantic, which commands start faster without

    try:
        length = parse_duration(text)
    except SpecError as error:
        raise SettingsError(f"{name}: {error}") from None
    if not least <= length.total_seconds() <= most:
        raise SettingsError(f"{name} is between {least:g} and {most:g} seconds, not {text!r}")
    return length
