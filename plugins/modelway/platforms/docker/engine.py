"""The engine's API as far as jobs need it: refusals translated by kind, no file of the engine's machine touched."""

import base64
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO, Any

from modelway.errors import SubmitFailed
from modelway.failures import FailureKind

Object = Mapping[str, Any]
READ_SECONDS = 120


class Engine:
    """A Docker engine, here or elsewhere."""

    def __init__(self, client: Any = None) -> None:
        """Work on the engine of ``client`` (the SDK's DockerClient, or an address), else of DOCKER_HOST, else here."""
        self._client = client

    @cached_property
    def api(self) -> Any:
        """The SDK's low-level client, made at the first use: an engine that is unavailable only fails the request."""
        if self._client is not None and not isinstance(self._client, str):
            return self._client.api
        import docker

        own = {"DOCKER_HOST": self._client} if self._client else {}
        with translate_errors():
            return docker.from_env(timeout=READ_SECONDS, use_ssh_client=True, environment={**os.environ, **own}).api

    @property
    def address(self) -> str:
        """Where the engine is, such as ``tcp://engine:2376``; "" for the usual place on this machine."""
        if self._client is None or isinstance(self._client, str):
            return self._client or os.environ.get("DOCKER_HOST") or ""
        return str(self._client.api.base_url)

    @cached_property
    def info(self) -> Object:
        """What the engine reports of its machine."""
        with translate_errors():
            found: Object = self.api.info()
        return found

    def containers(self, labels: Mapping[str, str]) -> list[Object]:
        """Return all containers with these labels, in the form of the engine's list."""
        with translate_errors():
            return list(self.api.containers(all=True, filters={"label": [f"{k}={v}" for k, v in labels.items()]}))

    def volumes(self, labels: Mapping[str, str], *, unused: bool = False) -> list[Object]:
        """Return all volumes with these labels, or those of them that no container has."""
        with translate_errors():
            filters = {"label": [f"{k}={v}" for k, v in labels.items()], **({"dangling": "true"} if unused else {})}
            found = self.api.volumes(filters=filters)
        return list(found.get("Volumes") or ())

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a volume; one of that name is left as it is."""
        with translate_errors():
            self.api.create_volume(name=name, labels=dict(labels))

    def create(self, body: Mapping[str, Any], name: str) -> str:
        """Create a container, its image pulled where the engine lacks it; return its id."""
        from docker.errors import ImageNotFound

        with translate_errors():
            try:
                return str(self.api.create_container_from_config(dict(body), name)["Id"])
            except ImageNotFound:
                self._pull(body["Image"])
            return str(self.api.create_container_from_config(dict(body), name)["Id"])

    def find_image(self, image: str) -> Object | None:
        """Return what the engine knows of an image; None: it has none of that name."""
        import docker.errors

        with translate_errors():
            try:
                found: Object = self.api.inspect_image(image)
            except docker.errors.NotFound:
                return None
        return found

    def pull_missing(self, image: str, *, username: str | None = None, password: str | None = None) -> None:
        """Pull an image that the engine lacks, with this login, else with the one in Docker's configuration.

        :raises SubmitFailed: it is nowhere, or this login may not pull it
        """
        if self.find_image(image) is None:
            with translate_errors():
                self._pull(image, **({"auth_config": {"username": username, "password": password}} if username else {}))

    def _pull(self, image: str, **login: Any) -> None:
        import docker.errors

        name, tag = _name_and_tag(image)
        place = {"repository": image} if "@" in image else {"repository": name, "tag": tag}
        try:
            for progress in self.api.pull(**place, stream=True, decode=True, **login):
                if "error" in progress:
                    raise _no_image(image, progress["error"])
        except docker.errors.APIError as error:
            raise _no_image(image, str(error.explanation or error)) from None

    def push(self, image: str, *, username: str | None = None, password: str | None = None) -> None:
        """Push an image to its registry, with this login, else with the one in Docker's configuration.

        :raises SubmitFailed: the registry refused it or does not answer
        """
        login = {"auth_config": {"username": username, "password": password}} if username else {}
        name, tag = _name_and_tag(image)
        with translate_errors():
            for progress in self.api.push(name, tag=tag, stream=True, decode=True, **login):
                if "error" in progress:
                    raise SubmitFailed(
                        f"the engine could not push {image}: {progress['error'].strip().rstrip('.')}",
                        kind=FailureKind.REFUSED,
                        do="Check the repository's name, and that this login may push to it",
                    )

    def rename(self, container: str, name: str) -> bool:
        """Rename a container; False when another one has the name."""
        import docker.errors

        with translate_errors():
            try:
                self.api.rename(container, name)
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    return False
                raise
        return True

    def start(self, container: str) -> None:
        """Start a container; one that the engine cannot start has the reason in its state."""
        import docker.errors

        with translate_errors():
            try:
                self.api.start(container)
            except docker.errors.APIError:
                if not self.api.inspect_container(container)["State"]["Error"]:
                    raise

    def resume(self, container: str) -> None:
        """Let a paused container continue."""
        with translate_errors():
            self.api.unpause(container)

    def wait(self, container: str, *, seconds: float) -> int:
        """Wait until a container has ended and return its exit status.

        :raises SubmitFailed: it has not ended in time
        """
        with translate_errors():
            return int(self.api.wait(container, timeout=seconds)["StatusCode"])

    def update(self, container: str, limits: Mapping[str, Any]) -> None:
        """Change the limits and the restart policy of a container, as ``docker update`` does."""
        with translate_errors():
            url = self.api._url("/containers/{0}/update", container)
            self.api._result(self.api._post_json(url, data=dict(limits)), json=True)

    def inspect(self, container: str) -> Object | None:
        """Return what the engine knows of a container; None: there is none."""
        import docker.errors

        with translate_errors():
            try:
                found: Object = self.api.inspect_container(container)
            except docker.errors.NotFound:
                return None
        return found

    def image_digest(self, inspected: Object) -> str:
        """Return by which digest a container's image is known to its registry, else to this engine alone."""
        import docker.errors

        own = str(inspected["Image"])
        with translate_errors():
            try:
                known = self.api.inspect_image(own).get("RepoDigests") or ()
            except docker.errors.NotFound:
                return own
        name, _ = _name_and_tag(inspected["Config"]["Image"].partition("@")[0])
        digests = dict(one.split("@") for one in known)
        return str(digests.get(name) or next(iter(digests.values()), own))

    def stop(self, container: str, *, grace_seconds: int) -> None:
        """Stop a container, kill it after the grace time, and wait for its end."""
        import docker.errors

        with translate_errors(), contextlib.suppress(docker.errors.NotFound):
            if self.api.inspect_container(container)["State"].get("Paused"):
                self.api.unpause(container)
            self.api.stop(container, timeout=grace_seconds)

    def remove(self, container: str) -> None:
        """Remove a container; one that is gone is gone."""
        import docker.errors

        with translate_errors(), contextlib.suppress(docker.errors.NotFound):
            self.api.remove_container(container, force=True)

    def remove_volume(self, name: str) -> None:
        """Remove a volume unless a container has it."""
        import docker.errors

        with translate_errors():
            try:
                self.api.remove_volume(name)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):
                    raise

    def execute(self, container: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run a program in a running container and return its exit status and what it printed.

        :raises SubmitFailed: the container does not run, or the engine refused it
        """
        with translate_errors():
            begun = self.api.exec_create(container, list(argv))["Id"]
            printed = bytes(self.api.exec_start(begun))
            return int(self.api.exec_inspect(begun)["ExitCode"] or 0), printed.decode(errors="replace")

    def put(self, container: str, *, path: str, archive: IO[bytes] | bytes) -> None:
        """Unpack a tar archive in a container."""
        with translate_errors():
            self.api.put_archive(container, path, archive)

    def get(self, container: str, path: str) -> Iterator[bytes] | None:
        """Return a file or folder of a container as a tar archive; None: it is not there."""
        import docker.errors

        with translate_errors():
            try:
                data, _ = self.api.get_archive(container, path)
            except docker.errors.NotFound:
                return None
        return _translated(data)

    def size(self, container: str, path: str) -> int | None:
        """Return the size of a file of a container in bytes; None: it is not there."""
        url = f"{self.api.base_url}/v{self.api.api_version}/containers/{container}/archive"
        with translate_errors():
            answer = self.api.head(url, params={"path": path}, timeout=READ_SECONDS)
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
            return int(json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))["size"])

    def last_lines(self, container: str, *, lines: int) -> bytes:
        """Return the last lines that a container printed; nothing for one that is gone."""
        import docker.errors

        with translate_errors():
            try:
                return bytes(self.api.logs(container, tail=lines))
            except docker.errors.NotFound:
                return b""


def _translated(data: Iterator[bytes]) -> Iterator[bytes]:
    with translate_errors():
        yield from data


def _name_and_tag(image: str) -> tuple[str, str]:
    name, _, tag = image.rpartition(":") if ":" in image.rsplit("/", 1)[-1] else (image, "", "latest")
    return name, tag


def _no_image(image: str, said: str) -> SubmitFailed:
    return SubmitFailed(
        f"the engine has no image {image} and could not pull it: {said.strip().rstrip('.')}",
        kind=FailureKind.IMAGE_PULL,
        do="Check the image's name, that it is pushed, and that the engine may pull it; `make images` builds our own",
    )


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Translate a refusal or silence of the engine to an error with its kind.

    :raises SubmitFailed: the engine refused or did not answer
    """
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise _refused(error) from None
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise _silent(error) from None


def _refused(error: Any) -> SubmitFailed:
    said = str(error.explanation or error)
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        said = json.loads(said)["message"]
    said, status = said.strip().rstrip("."), error.status_code or 0
    if status in (401, 403):
        return SubmitFailed(f"the Docker engine does not allow it: {said}", kind=FailureKind.FORBIDDEN)
    if "no space left on device" in said:
        return SubmitFailed(
            f"the Docker engine's disk is full: {said}", kind=FailureKind.QUOTA, do="Make room: docker system df"
        )
    if 400 <= status < 500:
        return SubmitFailed(f"the Docker engine refused the job: {said}", kind=FailureKind.REFUSED)
    return SubmitFailed(f"the Docker engine failed: {said}", kind=FailureKind.UNREACHABLE)


def _silent(error: BaseException) -> SubmitFailed:
    if _is_permission(error):
        return SubmitFailed(
            "this user may not use the Docker engine",
            kind=FailureKind.FORBIDDEN,
            do="Add the worker's user to the group of the engine's socket, or set DOCKER_HOST to another engine",
        )
    return SubmitFailed(
        f"the Docker engine does not answer: {error}",
        kind=FailureKind.UNREACHABLE,
        do="Start it, or set DOCKER_HOST (or the connection modelway_docker) to where it is",
    )


def _is_permission(error: BaseException | None) -> bool:
    """Whether a missing permission is behind an error, however often it was wrapped."""
    if error is None:
        return False
    wrapped = [one for one in error.args if isinstance(one, BaseException)]
    return (
        isinstance(error, PermissionError)
        or "PermissionError" in str(error)
        or any(_is_permission(one) for one in (*wrapped, error.__cause__))
    )
