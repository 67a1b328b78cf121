"""Images that an environment has in a repository of its own: the same bytes under the same digest, copied once."""

from dataclasses import dataclass, field

from modelway.endpoints.base import Login
from modelway.errors import ImageInvalid
from modelway.oci.images import open_source
from modelway.oci.manifest import LayoutReference, parse_reference
from modelway.platforms.google.rest import GoogleApi

_USER = "oauth2accesstoken"


def released(image: str, repository: str | None) -> str:
    """Return what an image is called in the repository of its environment.

    :param repository: ``<host>/<repository>``; None: it stays where it is
    """
    return f"{repository}@{image.rpartition('@')[2]}" if repository else image


@dataclass
class ReleasedImages:
    """Copies images, each once in a process."""

    api: GoogleApi
    login: Login | None = None
    _there: set[str] = field(default_factory=set)

    def bring(self, image: str, repository: str | None, *, where: str) -> None:
        """Make sure that an image is in the repository, with what refers to it; what is there is not sent again.

        :raises ImageInvalid: it is damaged, or on this machine, where Google does not find it
        :raises RegistryError: a registry refuses (terminal) or does not answer (retryable)
        """
        reference = parse_reference(image)
        if repository is None:
            if isinstance(reference, LayoutReference):
                raise ImageInvalid(
                    "the image is in a folder of a worker, where Google does not find it",
                    where=where,
                    do="Push it to a registry: image.repository in the model spec, or image_repository of the target",
                )
            return
        wanted = released(image, repository)
        if wanted == image or wanted in self._there:
            return
        from modelway.oci.registry import RegistryClient
        from modelway.oci.transfer import copy_to_registry

        host, _, path = repository.partition("/")
        theirs = (None, None) if isinstance(reference, LayoutReference) else self._login(reference.host, image)
        ours = self._login(host, wanted)
        with (
            open_source(reference=reference, username=theirs[0], password=theirs[1]) as source,
            RegistryClient(host=host, username=ours[0], password=ours[1]) as client,
        ):
            copy_to_registry(source=source, digest=reference.digest, client=client, repository=path)
        self._there.add(wanted)

    def _login(self, host: str, image: str) -> tuple[str | None, str | None]:
        """Return the login of a registry: the connection's where it is of that, Google's own, else Docker's."""
        if self.login is not None and self.login.opens(image):
            return self.login.username, self.login.password
        token = self.api.credentials.headers().get("Authorization", "") if _is_google(host) else ""
        return (_USER, token.removeprefix("Bearer ")) if token else (None, None)


def _is_google(host: str) -> bool:
    """Return whether a registry is Google's: no other one may see the token of an account."""
    return host == "gcr.io" or host.endswith((".gcr.io", ".pkg.dev"))
