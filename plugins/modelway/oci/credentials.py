"""The logins that Docker's own settings have for registries: ``config.json`` and credential helpers.

Read from ``$DOCKER_CONFIG/config.json``, ``~/.docker/config.json`` and ``$REGISTRY_AUTH_FILE``, the file that
``podman login`` and ``skopeo login`` write.
"""

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelway.errors import RegistryRefused

#: the key under which Docker stores the login of Docker Hub
_DOCKER_HUB = "https://index.docker.io/v1/"
#: the user name by which a helper says that its secret is an identity token
_TOKEN = "<token>"
_HELPER_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A login of a registry: a name and a password, or an identity token that is exchanged for access tokens."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def find_credentials(host: str) -> Credentials | None:
    """Return the login that Docker's settings have for a registry, None where they have none.

    :param host: host and port, as they stand in a reference
    :raises RegistryRefused: a settings file cannot be read, or a credential helper failed
    """
    keys: tuple[str, ...] = (host, f"https://{host}", f"https://{host}/", f"https://{host}/v1/", f"https://{host}/v2/")
    if host == "docker.io":
        keys = (_DOCKER_HUB, *keys)
    for path in _files():
        settings = _read(path)
        for key in keys:
            if (found := _of(settings, key, where=str(path))) is not None:
                return found
    return None


def _files() -> Iterator[Path]:
    folder = os.environ.get("DOCKER_CONFIG")
    named = [Path(folder) if folder else Path.home() / ".docker"]
    paths = [each / "config.json" for each in named]
    if other := os.environ.get("REGISTRY_AUTH_FILE"):
        paths.append(Path(other))
    yield from (path for path in paths if path.is_file())


def _read(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        # The text of a JSON error may quote a secret.
        raise RegistryRefused(
            f"Docker's settings cannot be read ({type(error).__name__})",
            where=str(path),
            do="Repair or remove the file",
        ) from None
    return settings if isinstance(settings, dict) else {}


def _of(settings: Mapping[str, Any], key: str, *, where: str) -> Credentials | None:
    """Return the login under one key: of its own helper, of the file itself, of the helper for all."""
    if helper := (settings.get("credHelpers") or {}).get(key):
        return _ask(str(helper), key)
    entry = (settings.get("auths") or {}).get(key)
    if isinstance(entry, dict) and (found := _decoded(entry, key, where=where)) is not None:
        return found
    if helper := settings.get("credsStore"):
        return _ask(str(helper), key)
    return None


def _decoded(entry: Mapping[str, Any], key: str, *, where: str) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials(identity_token=str(token))
    if entry.get("username") and entry.get("password"):
        return Credentials(username=str(entry["username"]), password=str(entry["password"]))
    if not entry.get("auth"):
        return None
    try:
        username, sign, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
    except ValueError:
        sign = ""
    if not sign:
        what = f"the login of '{key}' is not the base64 text of name:password"
        raise RegistryRefused(what, where=where, do=f"Run docker login {key} again")
    return Credentials(username=username, password=password)


def _ask(helper: str, key: str) -> Credentials | None:
    """Run a credential helper; None where it knows no login of the registry."""
    program = f"docker-credential-{helper}"
    do = f"Repair the helper, or run docker login {key}"
    try:
        done = subprocess.run(
            [program, "get"], input=key, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        what = f"the credential helper does not answer ({type(error).__name__})"
        raise RegistryRefused(what, where=program, do=do) from None
    if done.returncode:
        if "not found" in (done.stdout + done.stderr).lower():
            return None
        raise RegistryRefused(f"the credential helper ends with status {done.returncode}", where=program, do=do)
    try:
        answer = json.loads(done.stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryRefused("the credential helper gives no login", where=program, do=do) from None
    if username == _TOKEN:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret)
