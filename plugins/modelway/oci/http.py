"""One exchange with a registry: login, retries, and its refusals translated to our errors."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.request import getproxies

import httpx

from modelway.errors import ImageInvalid, RegistryError, RegistryRefused
from modelway.oci.credentials import Credentials, find_credentials
from modelway.oci.login import RegistryLogin
from modelway.oci.manifest import LARGEST_DOCUMENT, read_document
from modelway.oci.retries import RegistryBusy, Retries, retry_after
from modelway.oci.sending import BODY, PartsBody, PartsTransport
from modelway.oci.trust import ssl_context

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_WAIT = "Check that the registry runs and is reachable from this machine, then try again"
_PUSH_AGAIN = "Push the image again, and let nothing remove blobs from the registry meanwhile"
_REBUILD = "Build the image again (clear the build_image task)"


class AccessRefused(RegistryRefused):
    """No login, a wrong one, or one without the right."""


class OtherBytes(ImageInvalid):
    """Bytes that a registry refused: they are not the ones that their digest names."""


class BlobsMissing(RegistryError):
    """A manifest that a registry refused: it lacks blobs of it."""


class RegistryConnection:
    """Requests to one registry over HTTPS (HTTP on this machine or with ``insecure``)."""

    def __init__(
        self,
        *,
        host: str,
        username: str | None,
        password: str | None,
        insecure: bool,
        retries: Retries,
        timeout_seconds: float,
    ) -> None:
        """Open no connection yet; see ``RegistryClient``."""
        self.host = host
        self.retries = retries
        local = host in _LOOPBACK or host.rsplit(":", 1)[0] in _LOOPBACK
        # Docker Hub answers the API under another name than its references carry.
        api_host = "registry-1.docker.io" if host == "docker.io" else host
        self.base = f"{'http' if local or insecure else 'https'}://{api_host}"
        # Loading certificates costs more than all requests for an image that has not changed.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if local else ssl_context(host)
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout_seconds, connect=10),
            follow_redirects=True,
            # The environment's proxy is not used for this machine.
            trust_env=not local,
            verify=verify,
            # Where the environment names no proxy: given as the transport, it would take the place of all of them.
            mounts={} if not local and "all" in getproxies() else {"all://": PartsTransport(verify=verify)},
        )
        given = Credentials(username=username, password=password) if username and password is not None else None
        self._login = RegistryLogin(
            http=self._http, host=host, base=self.base, credentials=lambda: given or find_credentials(host)
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(
        self, method: str, target: str | httpx.URL, *, repository: str, absent: bool = False, **options: Any
    ) -> httpx.Response | None:
        """Send one request and return its answer's headers; ``None`` stands for 404 where ``absent`` is an answer."""
        with self.open(method, target, repository=repository, absent=absent, **options) as answer:
            # Reading to the end keeps the connection for the next request.
            self.read(answer, repository)
            return None if absent and answer.status_code == httpx.codes.NOT_FOUND else answer

    @contextmanager
    def open(
        self,
        method: str,
        target: str | httpx.URL,
        *,
        repository: str,
        push: bool = False,
        also: tuple[str, ...] = (),
        absent: bool = False,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Any] = lambda: None,
        body: PartsBody | None = None,
    ) -> Iterator[httpx.Response]:
        """Open an answer, logging in when the registry requires it; errors are translated to ours.

        :param body: the same bytes as ``content``, for a connection without a proxy
        """
        scope = self._login.scope(repository, push=push, also=also)
        url = self.base + target if isinstance(target, str) else target
        with self.translate_errors(repository):
            for first in (True, False):
                authorization = self._login.header(scope)
                authorised = {**(headers or {}), **authorization}
                sent = self._http.build_request(
                    method,
                    url,
                    params=params or None,
                    headers=authorised,
                    content=content(),
                    extensions={BODY: body} if body else None,
                )
                answer = self._http.send(sent, stream=True)
                if answer.status_code != httpx.codes.UNAUTHORIZED or not first:
                    break
                answer.close()
                challenges = answer.headers.get_list("WWW-Authenticate")
                self._login.answer(challenges, scope=scope, sent=authorization.get("Authorization"))
        try:
            if not (absent and answer.status_code == httpx.codes.NOT_FOUND):
                self._raise_for(answer, repository)
            yield answer
        finally:
            answer.close()

    def read(self, answer: httpx.Response, repository: str) -> bytes:
        """Return an answer's body, or a little more than its first 4 MiB: anything larger is no document."""
        data = b""
        with self.translate_errors(repository):
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > LARGEST_DOCUMENT:
                    break
        return data

    def _raise_for(self, answer: httpx.Response, repository: str) -> None:
        status, where = answer.status_code, f"{self.host}/{repository}"
        if status < 400:
            return
        if status == 429 or status >= 500:
            what, pause = f"the registry answers {status} {answer.reason_phrase}", answer.headers.get("Retry-After")
            raise RegistryBusy(what, pause_seconds=retry_after(pause), where=where, do=_WAIT)
        codes = _error_codes(self.read(answer, repository))
        if status in (401, 403):
            do = "Check the registry's connection in Airflow: host, login, password and the right to pull and push here"
            raise AccessRefused(f"the registry refuses access ({status}{codes})", where=where, do=do)
        if "BLOB_UNKNOWN" in codes and answer.request.method == "PUT":
            raise BlobsMissing(f"the registry lacks blobs of the image ({status}{codes})", where=where, do=_PUSH_AGAIN)
        if status == 404:
            do = "Check the reference: host, repository and digest"
            name = answer.request.url.path.rpartition("/")[2] or "such repository"
            raise RegistryRefused(f"the registry has no {name} ({status}{codes})", where=where, do=do)
        if "DIGEST_INVALID" in codes:
            raise OtherBytes("the registry got other bytes than the digest names", where=where, do=_REBUILD)
        raise RegistryRefused(f"the registry refuses the request ({status}{codes})", where=where)

    @contextmanager
    def translate_errors(self, repository: str) -> Iterator[None]:
        """Translate a failed exchange to a retryable error that names host and repository only."""
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or error.__class__.__name__
            where = f"{self.host}/{repository}"
            raise RegistryError(f"the registry does not answer ({reason})", where=where, do=_WAIT) from error


def _error_codes(body: bytes) -> str:
    """Return the specification's error codes of an answer as ``, CODE``, never its free text."""
    try:
        errors = read_document(body, where="").get("errors") or ()
        codes = [str(error["code"])[:60] for error in errors if isinstance(error, dict) and "code" in error]
    except ImageInvalid:
        return ""
    return "".join(f", {code}" for code in codes if code.replace("_", "").isalnum())
