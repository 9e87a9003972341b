"""Container images without an engine or a registry: layers are tars of folders, an archive is a tar of layers and two JSON files."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ENVIRONMENT = ("PATH=/app/bin:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH=/app", "PYTHONUNBUFFERED=1")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """An uncompressed tar and the digest that names it."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Image:
    """What `imagePullPolicy: Never` finds once the node has it; without an entrypoint a pod must say what it runs."""

    name: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str] = ()
    user: str = "65532:65532"
    workdir: str = "/"
    environment: Sequence[str] = field(default=ENVIRONMENT)


def layer(folder: Path, tar: Path, prefix: str = "") -> Layer:
    """A layer with a folder's content, owned by root; under a prefix, where programs of ours go, it is made readable by everybody.

    Times are kept, because compiled Python is only as good as the time of its source.
    """
    making = tar.with_suffix(".making")
    with tarfile.open(making, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            entry = archive.gettarinfo(path, arcname=str(Path(prefix) / path.relative_to(folder)))
            # gettarinfo gives None for a socket; device nodes come from the container runtime.
            if not entry or entry.ischr() or entry.isblk() or entry.isfifo():
                continue
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            if prefix:
                entry.mode |= 0o555 if entry.isdir() or entry.mode & 0o100 else 0o444
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    making.replace(tar)
    return known_layer(tar)


def known_layer(tar: Path) -> Layer:
    """A layer that was made before."""
    digest = hashlib.sha256()
    with tar.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return Layer(tar, digest.hexdigest())


def write_archive(images: Sequence[Image], path: Path) -> None:
    """A docker-archive with these images; a layer that several have is in it once."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        manifest: list[dict[str, object]] = []
        for image in images:
            config = json.dumps(_config(image)).encode()
            named = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(archive, named, config)
            layers = [f"{one.digest}.tar" for one in image.layers]
            manifest.append({"Config": named, "RepoTags": [image.name], "Layers": layers})
        for one in {one.digest: one for image in images for one in image.layers}.values():
            archive.add(one.path, arcname=f"{one.digest}.tar")
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _config(image: Image) -> dict[str, object]:
    config = {
        "User": image.user,
        "WorkingDir": image.workdir,
        "Env": list(image.environment),
        "Entrypoint": list(image.entrypoint) or None,
    }
    layers = [f"sha256:{one.digest}" for one in image.layers]
    return {"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": layers}}


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
