"""Kubernetes' API as the ports use it: a few calls, their refusals translated to our errors."""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelway.errors import SubmitFailed
from modelway.failures import FailureKind

Object = Mapping[str, Any]
Manifest = dict[str, Any]

#: seconds to connect, and to wait for an answer
TIMEOUT = (5, 30)
#: of a pod's own log, of which only the last lines are of interest
LOG_BYTES = 1 << 20
NOT_FOUND, CONFLICT = 404, 409
#: a warning as HTTP has it: a code, who warns, the text, perhaps a date
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_log = logging.getLogger(__name__)


def find_client() -> Any:
    """Return a client by the service account of the pod that this runs in, or by KUBECONFIG.

    :raises SubmitFailed: there is neither
    """
    from kubernetes import client, config

    try:
        # The library's own choice between the two warns where neither is there.
        inside = "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
        config.load_incluster_config() if inside else config.load_kube_config()
    except (config.ConfigException, OSError) as error:
        raise SubmitFailed(
            f"there is no way to a cluster: {error}",
            kind=FailureKind.UNREACHABLE,
            do="Set KUBECONFIG, or make the Airflow connection modelway_kubernetes",
        ) from error
    return client.ApiClient()


class Api:
    """The calls, on plain data."""

    def __init__(self, client: Any) -> None:
        """Call with the SDK's ApiClient."""
        from kubernetes import client as api

        self.client = client
        self._core, self._batch = api.CoreV1Api(client), api.BatchV1Api(client)

    def version(self) -> tuple[int, int]:
        """Return the server's version, such as ``(1, 30)``."""
        from kubernetes import client as api

        with translate_errors("return the server's version"):
            found = api.VersionApi(self.client).get_code(_request_timeout=TIMEOUT)
        return int(found.major), int("".join(filter(str.isdigit, found.minor)))

    def create(self, manifest: Manifest) -> Object | None:
        """Create an object; None when one of its name exists already."""
        from kubernetes.client.exceptions import ApiException

        kind, namespace = manifest["kind"], manifest["metadata"]["namespace"]
        with translate_errors(f"create the {kind} {manifest['metadata']['name']} in namespace {namespace}"):
            try:
                return self.call("POST", path_of(manifest), manifest, warn=f"{kind} {manifest['metadata']['name']}")
            except ApiException as error:
                if error.status == CONFLICT and _answer(error).get("reason") == "AlreadyExists":
                    return None
                raise

    def set_owner(self, manifest: Manifest, *, owner: Mapping[str, Any]) -> None:
        """Set the owner of an existing object, so that it is deleted with its owner."""
        with translate_errors(f"set the owner of the {manifest['kind']} {manifest['metadata']['name']}"):
            path = f"{path_of(manifest)}/{manifest['metadata']['name']}"
            body = {"metadata": {"ownerReferences": [dict(owner)]}}
            self.call("PATCH", path, body, content="application/merge-patch+json")

    def find(self, manifest: Manifest) -> Object:
        """Return the object that has a manifest's name."""
        with translate_errors(f"read the {manifest['kind']} {manifest['metadata']['name']}"):
            return self.call("GET", f"{path_of(manifest)}/{manifest['metadata']['name']}", None)

    def customs(self, namespace: str | None, selector: str, *, group: str, version: str, kind: str) -> list[Object]:
        """Return the objects of a controller's kind with these labels; none where the kind is not known."""
        from kubernetes.client.exceptions import ApiException

        place = f"/namespaces/{namespace}" if namespace else ""
        path = f"/apis/{group}/{version}{place}/{plural(kind)}"
        with translate_errors(
            f"list the {plural(kind)} of {f'namespace {namespace}' if namespace else 'all namespaces'}"
        ):
            try:
                items: list[Object] = self.call("GET", path, None, query=[("labelSelector", selector)])["items"]
            except ApiException as error:
                if error.status == NOT_FOUND:
                    return []
                raise
        return items

    def call(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        content: str = "application/json",
        query: Sequence[tuple[str, str]] = (),
        warn: str | None = None,
    ) -> Object:
        """Send a request on plain data and return the answer; a refusal is the client's own error.

        :param warn: what the warnings of the answer are about; None: they are not logged
        """
        # The generated classes drop fields that are newer than they are; plain data is sent unchanged.
        answer = self.client.call_api(
            path,
            method,
            query_params=list(query),
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=TIMEOUT,
        )
        for text in warnings_of(answer.headers.getlist("Warning")) if warn else ():
            _log.warning("Kubernetes warns about the %s: %s. %s", warn, text.rstrip("."), _advice(text))
        value: Object = json.loads(answer.data)
        return value

    def text(self, path: str) -> str:
        """Return what a path answers, which is no JSON."""
        answer = self.client.call_api(
            path,
            "GET",
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=TIMEOUT,
        )
        return bytes(answer.data).decode(errors="replace")

    def jobs(self, namespace: str | None, selector: str) -> list[Object]:
        """Return the Jobs with these labels; of all namespaces when none is named."""
        how = {"label_selector": selector, "_request_timeout": TIMEOUT}
        with translate_errors(f"list the Jobs of {f'namespace {namespace}' if namespace else 'all namespaces'}"):
            found = (
                self._batch.list_namespaced_job(namespace, **how)
                if namespace
                else self._batch.list_job_for_all_namespaces(**how)
            )
        return [self.client.sanitize_for_serialization(each) for each in found.items]

    def pods(self, namespace: str, selector: str) -> list[Object]:
        """Return the pods with these labels."""
        with translate_errors(f"list the pods of namespace {namespace}"):
            found = self._core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=TIMEOUT)
        return [self.client.sanitize_for_serialization(each) for each in found.items]

    def events(self, namespace: str) -> list[Object]:
        """Return the events of a namespace, oldest first."""
        with translate_errors(f"list the events of namespace {namespace}"):
            found = self._core.list_namespaced_event(namespace, _request_timeout=TIMEOUT)
        plain = [self.client.sanitize_for_serialization(each) for each in found.items]
        return sorted(plain, key=lambda each: str(each.get("lastTimestamp") or each["metadata"]["creationTimestamp"]))

    def pod_log(self, namespace: str, name: str, *, lines: int) -> str:
        """Return a pod's last lines, or nothing when it has none."""
        from kubernetes.client.exceptions import ApiException

        try:
            # The client gives the text of an answer as the repr of its bytes, and None for an empty one.
            answer = self._core.read_namespaced_pod_log(
                name,
                namespace,
                tail_lines=lines,
                limit_bytes=LOG_BYTES,
                _preload_content=False,
                _request_timeout=TIMEOUT,
            )
            return bytes(answer.data or b"").decode(errors="replace")
        except ApiException:
            return ""

    def delete(
        self, namespace: str, selector: str, *, custom: tuple[str, str, str] | None, grace_seconds: int
    ) -> list[Object]:
        """Delete Jobs with whatever they own, and their pods at once; return the pods. What is gone is fine.

        :param custom: group, version and kind of the controller's objects to delete as well
        """
        with translate_errors(f"delete the jobs of {selector}"):
            if custom:
                self._delete_customs(namespace, selector, *custom)
            for job in self.jobs(namespace, selector):
                with _unless_gone():
                    self._batch.delete_namespaced_job(
                        job["metadata"]["name"],
                        namespace,
                        propagation_policy="Background",
                        _request_timeout=TIMEOUT,
                    )
            return self.delete_pods(namespace, selector, grace_seconds)

    def _delete_customs(self, namespace: str, selector: str, group: str, version: str, kind: str) -> None:
        for one in self.customs(namespace, selector, group=group, version=version, kind=kind):
            path = f"/apis/{group}/{version}/namespaces/{namespace}/{plural(kind)}/{one['metadata']['name']}"
            with _unless_gone():
                self.call("DELETE", path, {"propagationPolicy": "Background"})

    def delete_pods(self, namespace: str, selector: str, grace_seconds: int) -> list[Object]:
        """Delete pods that are not being deleted as quickly already; return those that still exist."""
        found = self.pods(namespace, selector)
        for pod in found:
            left = pod["metadata"].get("deletionGracePeriodSeconds")
            if left is None or left > grace_seconds:
                with translate_errors(f"delete the pod {pod['metadata']['name']}"), _unless_gone():
                    self._core.delete_namespaced_pod(
                        pod["metadata"]["name"],
                        namespace,
                        grace_period_seconds=grace_seconds,
                        _request_timeout=TIMEOUT,
                    )
        return found


def path_of(manifest: Object) -> str:
    """Return where the API has the objects of a manifest's kind in its namespace."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    start = f"/apis/{group}/{version}" if group else f"/api/{version}"
    return f"{start}/namespaces/{manifest['metadata']['namespace']}/{plural(manifest['kind'])}"


def plural(kind: str) -> str:
    """Return the name of a kind in the API's paths."""
    return f"{kind.lower()}s"


def warnings_of(headers: Sequence[str]) -> list[str]:
    """Return the texts of the warnings that an answer's headers carry; one header may carry several."""
    return [re.sub(r"\\(.)", r"\1", text) for header in headers for text in _WARNING.findall(header)]


def _advice(warning: str) -> str:
    """Return what to do about a warning."""
    if "PodSecurity" in warning:
        return (
            "The namespace will refuse its pods: set what it names with kubernetes.patch, keep the jobs on a claim "
            "(storage.claim) rather than on a node's folder, or run them in another namespace (kubernetes.namespace)"
        )
    if "unknown field" in warning:
        return "The server ignores this field: correct kubernetes.patch, or see which version of the API has it"
    return "It was created all the same: see kubernetes.patch, and modelway render for the request"


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        if error.status != NOT_FOUND:
            raise


@contextlib.contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Translate a refusal or failure of the API server, or of the connection to it, to our own error.

    :raises SubmitFailed: with the kind of failure that it is
    """
    import urllib3
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        kind, message = _kind_of(error)
        raise SubmitFailed(f"Kubernetes refused to {doing}: {message}", kind=kind, do=kind.advice) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        kind = FailureKind.UNREACHABLE
        reason = str(getattr(error, "reason", None) or error)
        raise SubmitFailed(
            f"Kubernetes did not answer the request to {doing}: {reason}", kind=kind, do=kind.advice
        ) from error


def _answer(error: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(error.body)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _kind_of(error: Any) -> tuple[FailureKind, str]:
    message = str(_answer(error).get("message") or error.reason)
    if error.status == 403:
        return (FailureKind.QUOTA if "exceeded quota" in message else FailureKind.FORBIDDEN), message
    if error.status == 401:
        return FailureKind.FORBIDDEN, message
    # A conflict is two writers at once, such as of a quota's count.
    if error.status in (CONFLICT, 429) or not error.status or error.status >= 500:
        return FailureKind.UNREACHABLE, f"{error.status} {message}"
    return FailureKind.REFUSED, message
