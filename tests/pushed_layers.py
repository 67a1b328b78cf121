"""The layers of the model server's image in a registry's storage: pushed once, and linked into each test's registry.

An engine compresses what it pushes, 15 CPU seconds of this image; what a registry has already, it does not push.
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tests.airflow_template import templates
from tests.system.registry import Registry

SERVER = "modelway-server:0.1.0"
_REPOSITORIES = "docker/registry/v2/repositories"


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def registry_with_layers(folder: Path, *, repository: str, address: str = "127.0.0.1") -> Registry:
    """Start a registry in a folder, whose repository has the layers of the server's image."""
    shutil.copytree(_pushed(), folder / "storage", copy_function=_link)
    place = folder / "storage" / _REPOSITORIES / repository
    place.parent.mkdir(parents=True)
    (folder / "storage" / _REPOSITORIES / "server").rename(place)
    shutil.rmtree(place / "_manifests")
    return Registry(folder, address=address)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # On another file system.
        shutil.copyfile(source, target)


def _pushed() -> Path:
    """Return the storage of a registry to which the server's image was pushed."""
    place = templates() / f"layers-{docker('inspect', '--format', '{{.Id}}', SERVER).removeprefix('sha256:')}"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        # The first process pushes it while the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "pushed").exists():
            shutil.rmtree(place / "storage", ignore_errors=True)
            registry = Registry(place)
            tag = f"{registry.host}/server:test"
            try:
                docker("tag", SERVER, tag)
                docker("push", "--quiet", tag)
            finally:
                registry.stop()
                subprocess.run(["docker", "rmi", tag], capture_output=True)
            (place / "pushed").touch()
    return place / "storage"
