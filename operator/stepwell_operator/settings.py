"""Configuration: read here and nowhere else, from the environment that the chart writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stepwell.errors import SpecError, StepwellError
from stepwell.spec.duration import parse_duration

LEAST_KEPT = 3600.0
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class SettingsError(StepwellError):
    """A setting is missing or wrong; the message names the variable."""

    code = "DF0701"


@dataclass(frozen=True, slots=True)
class Settings:
    """How this operator works. `namespaces` empty: the whole cluster. Lengths are in seconds."""

    namespace: str
    pod: str
    admin_secret: str = ""
    runner_image: str = "stepwell-runner:latest"
    pull_policy: str = "IfNotPresent"
    namespaces: tuple[str, ...] = ()
    health_host: str = "0.0.0.0"  # noqa: S104 - probes come from the node
    health_port: int = 8080
    log_level: str = "INFO"
    log_json: bool = True
    resync: float = 600.0
    network_policy: bool = False
    evaluation_store: bool = False
    lease_seconds: float = 15.0
    census_seconds: float = 15.0
    look_seconds: float = 30.0
    """How often what runs and queues is read from each well, for status."""
    drain_seconds: float = 5.0
    """How far apart two answers of the store have to lie before a revision counts as drained."""
    deaf_seconds: float = 150.0
    """How long a watch may have missed what the server told when asked, before `/healthz` asks for a restart."""
    orphan_seconds: float = 600.0
    """How long a function that is registered in a well, and whose object was never seen here, isn't taken for deleted."""
    workers: int = 16
    gateway_replicas: int = 1
    gateway_keep: str = "7d"
    """How long gateways keep history."""
    token_reviewers: str = ""
    """The ClusterRoleBinding whose subjects may ask about tokens; gateways take no Kubernetes tokens without."""


def read_settings(env: Mapping[str, str]) -> Settings:
    """The settings in an environment; SettingsError names what is wrong."""
    namespace = env.get("STEPWELL_OPERATOR_NAMESPACE") or _own_namespace()
    if not namespace:
        raise SettingsError("STEPWELL_OPERATOR_NAMESPACE is not set: the operator has to know where its Lease and Secrets lie")
    return Settings(
        namespace=namespace,
        pod=env.get("STEPWELL_OPERATOR_POD") or env.get("HOSTNAME") or "stepwell-operator",
        admin_secret=env.get("STEPWELL_ADMIN_SECRET", ""),
        runner_image=env.get("STEPWELL_RUNNER_IMAGE") or "stepwell-runner:latest",
        pull_policy=_one_of(env, "STEPWELL_IMAGE_PULL_POLICY", ("IfNotPresent", "Always", "Never")),
        namespaces=tuple(part.strip() for part in env.get("STEPWELL_WATCH_NAMESPACES", "").split(",") if part.strip()),
        health_host=env.get("STEPWELL_HEALTH_HOST") or "0.0.0.0",  # noqa: S104
        health_port=_port(env, "STEPWELL_HEALTH_PORT", 8080),
        log_level=_one_of(env, "STEPWELL_LOG_LEVEL", ("INFO", "DEBUG", "WARNING", "ERROR")),
        log_json=_one_of(env, "STEPWELL_LOG_FORMAT", ("json", "text")) == "json",
        resync=_seconds(env, "STEPWELL_RESYNC", "10m"),
        network_policy=_flag(env, "STEPWELL_NETWORK_POLICY"),
        evaluation_store=_flag(env, "STEPWELL_EVALUATION_STORE"),
        lease_seconds=_seconds(env, "STEPWELL_LEASE", "15s"),
        census_seconds=_seconds(env, "STEPWELL_CENSUS", "15s"),
        look_seconds=_seconds(env, "STEPWELL_LOOK", "30s"),
        drain_seconds=_seconds(env, "STEPWELL_DRAIN_CHECK", "5s"),
        deaf_seconds=_seconds(env, "STEPWELL_DEAF_AFTER", "150s"),
        orphan_seconds=_seconds(env, "STEPWELL_ORPHAN_GRACE", "10m"),
        gateway_replicas=_whole(env, "STEPWELL_GATEWAY_REPLICAS", 1),
        gateway_keep=_kept(env, "STEPWELL_GATEWAY_KEEP", "7d"),
        token_reviewers=env.get("STEPWELL_TOKEN_REVIEWERS", ""),
    )


def _own_namespace() -> str:
    file = SERVICE_ACCOUNT / "namespace"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _one_of(env: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    text = env.get(name) or known[0]
    if text not in known:
        raise SettingsError(f"{name} is one of {', '.join(known)}, not {text!r}")
    return text


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise SettingsError(f"{name} is a port, a whole number up to 65535, not {text!r}")
    return int(text)


def _whole(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) > 100:
        raise SettingsError(f"{name} is a whole number up to 100, not {text!r}")
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: str) -> float:
    try:
        return parse_duration(env.get(name) or default).total_seconds()
    except SpecError as error:
        raise SettingsError(f"{name}: {error}") from None


def _kept(env: Mapping[str, str], name: str, default: str) -> str:
    if _seconds(env, name, default) < LEAST_KEPT:
        raise SettingsError(f"{name} is an hour at least, not {env[name]}")
    return env.get(name) or default


def _flag(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name) or "0"
    if text not in {"0", "1", "true", "false"}:
        raise SettingsError(f"{name} is 0 or 1, not {text!r}")
    return text in {"1", "true"}
