"""The images, by what their recipe says: there is no engine here to build them with."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BASE_MB, LIMIT_MB = 45, 200
BYTE_CODE = 1.3
"""How much wheels grow, compressed again after the byte code was written beside the sources."""
ENDS = {"operator": "stepwell-operator", "runner": "stepwell"}
ARCHITECTURES = ("x86_64", "aarch64")


@dataclass(slots=True)
class Stage:
    """A stage: what it is built on, and its instructions."""

    name: str
    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        """What follows each of one instruction."""
        return [text for word, text in self.lines if word == instruction]


@cache
def stages() -> dict[str, Stage]:
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(name, arguments.get(base.strip("${}"), base))
        else:
            found[list(found)[-1]].lines.append((word, rest.strip()))
    return found


def line_of(name: str) -> Iterator[Stage]:
    """A stage and those that it is built on, itself first."""
    known = stages()
    while name in known:
        yield known[name]
        name = known[name].base


def test_every_base_has_a_version() -> None:
    """Whatever comes from outside is Python 3.13 slim under a tag that names its Debian."""
    outside = {one.base for one in stages().values()} - set(stages())
    assert outside == {"docker.io/library/python:3.13-slim-bookworm"}
    copied = [text for one in stages().values() for text in one.of("COPY") if "--from=" in text]
    assert all(re.search(r"--from=([a-z-]+)", text)[1] in stages() for text in copied)


@pytest.mark.parametrize("name", ENDS)
def test_an_image_runs_as_nobody_in_particular(name: str) -> None:
    """The image's user is the one that the pods' security contexts name, by number, and nothing after it is another."""
    users = [user for stage in line_of(name) for user in stage.of("USER")]
    assert users == ["65532:65532"]
    from stepwell_operator.resources.pod import USER

    assert str(USER) in users[0]


@pytest.mark.parametrize("name", ENDS)
def test_an_image_starts_its_program(name: str) -> None:
    """The entry point is a console script of the package, as a list, so that signals reach it."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert stages()[name].of("ENTRYPOINT") == [f'["{ENDS[name]}"]']
    assert ENDS[name] in scripts


@pytest.mark.parametrize("name", ENDS)
def test_an_image_has_no_tools(name: str) -> None:
    """No stage gets a compiler; the last ones install nothing, lose pip, and take one folder from a stage before."""
    for stage in stages().values():
        for text in stage.of("RUN"):
            assert not re.search(r"\b(apt-get|apt|apk|gcc|g\+\+|build-essential|curl|wget)\b", text), text
    final = list(line_of(name))
    assert [stage.name for stage in final] == [name, "base"]
    runs = [text for stage in final for text in stage.of("RUN")]
    assert len(runs) == 1
    assert "rm -rf /usr/local/lib/python3.13/site-packages/* /usr/local/lib/python3.13/ensurepip /usr/local/bin/pip*" in runs[0]
    assert "install" not in runs[0]
    assert [text for stage in final for text in stage.of("COPY")] == [f"--from={name}-build /opt/stepwell /opt/stepwell"]


@pytest.mark.parametrize("name", ENDS)
def test_an_image_is_what_the_lock_says(name: str) -> None:
    """Dependencies come from uv.lock as they stand there, from wheels alone, without those of development."""
    syncs = [text for text in stages()[f"{name}-build"].of("RUN") if "uv sync" in text]
    assert len(syncs) == 2
    for text in syncs:
        assert "--frozen" in text
        assert "--no-dev" in text
        assert ("--extra operator" in text) == (name == "operator")
    assert "--no-build" in syncs[0].split()
    assert "--no-editable" in syncs[1].split()


@pytest.mark.parametrize("name", ENDS)
def test_every_dependency_has_a_wheel(name: str) -> None:
    """Every package of the image has a wheel for Python 3.13 on both architectures, so no compiler is missed."""
    for package in packages(name):
        for architecture in ARCHITECTURES:
            assert wheel(package, architecture) is not None, f"{package['name']} has none for {architecture}"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ENDS)
def test_an_image_is_small(name: str, architecture: str) -> None:
    """The base and every package, as they are pulled, stay below 200 MB."""
    wheels = sum((wheel(package, architecture) or {"size": 0})["size"] for package in packages(name)) / 1e6
    assert wheels > 20
    assert BASE_MB + wheels * BYTE_CODE < LIMIT_MB


def test_a_build_sees_what_it_copies_and_nothing_else() -> None:
    """.dockerignore lets through what Containerfile copies."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    copied = {word for one in stages().values() for text in one.of("COPY") if "--from" not in text for word in text.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / one).exists() for one in allowed)


# --- the lock ---


@cache
def locked() -> dict[str, dict[str, Any]]:
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    return {one["name"]: one for one in packages}


def packages(image: str) -> list[dict[str, Any]]:
    """The packages of an image but our own."""
    waiting = [("stepwell", extra) for extra in (("", "operator") if image == "operator" else ("",))]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = locked()[name]
        needed = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        waiting += [(one["name"], more) for one in needed for more in ("", *one.get("extra", ()))]
    return [locked()[name] for name in sorted({name for name, _ in seen} - {"stepwell"})]


def wheel(package: dict[str, Any], architecture: str) -> dict[str, Any] | None:
    """The package's wheel for Python 3.13 on Linux."""
    for one in package.get("wheels", ()):
        name = one["url"].rpartition("/")[2]
        if name.endswith("-none-any.whl"):
            return one
        if "manylinux" in name and architecture in name and ("-cp313-cp313-" in name or "-abi3-" in name):
            return one
    return None
