"""Kubernetes' API as this backend uses it: a few calls, their refusals as errors of ours."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from modelway.backends._kubernetes_manifests import GROUP, Manifest
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind

Object = Mapping[str, Any]

#: seconds to connect, and to wait for an answer
TIMEOUT = (5, 30)


def find_client() -> Any:
    """Return a client by the service account of the pod that this runs in, or by KUBECONFIG.

    :raises SubmitFailed: neither is there
    """
    from kubernetes import client, config

    try:
        config.load_config()
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

        with told("ask for the server's version"):
            found = api.VersionApi(self.client).get_code(_request_timeout=TIMEOUT)
        return int(found.major), int("".join(filter(str.isdigit, found.minor)))

    def create(self, manifest: Manifest) -> Object | None:
        """Create an object; None when one of its name is there already."""
        from kubernetes.client.exceptions import ApiException

        group, _, version = manifest["apiVersion"].rpartition("/")
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        kind, namespace = manifest["kind"], manifest["metadata"]["namespace"]
        with told(f"create the {kind} {manifest['metadata']['name']} in namespace {namespace}"):
            try:
                return self._call("POST", f"{path}/namespaces/{namespace}/{plural(kind)}", manifest)
            except ApiException as error:
                if error.status == 409:
                    return None
                raise

    def _call(self, method: str, path: str, body: Any) -> Object:
        # The generated classes drop fields that are newer than they are; plain data goes as it is.
        answer = self.client.call_api(
            path,
            method,
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=TIMEOUT,
        )
        value: Object = json.loads(answer.data)
        return value

    def jobs(self, namespace: str | None, selector: str) -> list[Object]:
        """Return the Jobs with these labels; of all namespaces when none is named."""
        how = {"label_selector": selector, "_request_timeout": TIMEOUT}
        with told(f"list the Jobs of {f'namespace {namespace}' if namespace else 'all namespaces'}"):
            found = (
                self._batch.list_namespaced_job(namespace, **how)
                if namespace
                else self._batch.list_job_for_all_namespaces(**how)
            )
        return [self.client.sanitize_for_serialization(each) for each in found.items]

    def pods(self, namespace: str, selector: str) -> list[Object]:
        """Return the pods with these labels."""
        with told(f"list the pods of namespace {namespace}"):
            found = self._core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=TIMEOUT)
        return [self.client.sanitize_for_serialization(each) for each in found.items]

    def events(self, namespace: str, name: str) -> list[Object]:
        """Return the events of the objects whose names begin with ``name``, oldest first."""
        with told(f"list the events of namespace {namespace}"):
            found = self._core.list_namespaced_event(namespace, _request_timeout=TIMEOUT)
        plain = [self.client.sanitize_for_serialization(each) for each in found.items]
        own = [each for each in plain if str(each["involvedObject"].get("name", "")).startswith(name)]
        return sorted(own, key=lambda each: str(each.get("lastTimestamp") or each["metadata"]["creationTimestamp"]))

    def pod_log(self, namespace: str, name: str, *, lines: int) -> str:
        """Return a pod's last lines, or nothing when it has none."""
        from kubernetes.client.exceptions import ApiException

        try:
            return str(self._core.read_namespaced_pod_log(name, namespace, tail_lines=lines, _request_timeout=TIMEOUT))
        except ApiException:
            return ""

    def delete(self, namespace: str, name: str, *, grace_seconds: int) -> None:
        """Delete a try's Jobs with whatever they own, and its pods at once; what is gone is fine."""
        selector = f"{GROUP}/try={name}"
        with told(f"delete the Jobs of {name}"):
            for job in self.jobs(namespace, selector):
                with _unless_gone():
                    self._batch.delete_namespaced_job(
                        job["metadata"]["name"],
                        namespace,
                        propagation_policy="Background",
                        _request_timeout=TIMEOUT,
                    )
            for pod in self.pods(namespace, selector):
                with _unless_gone():
                    self._core.delete_namespaced_pod(
                        pod["metadata"]["name"],
                        namespace,
                        grace_period_seconds=grace_seconds,
                        _request_timeout=TIMEOUT,
                    )


def plural(kind: str) -> str:
    """Return what the paths of the API call a kind."""
    return f"{kind.lower()}s"


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn what the API server or the way to it refuses into an error of ours.

    :raises SubmitFailed: with the kind of failure that it is
    """
    import urllib3
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        kind, words = _kind_of(error)
        raise SubmitFailed(f"Kubernetes refused to {doing}: {words}", kind=kind, do=kind.advice) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        kind = FailureKind.UNREACHABLE
        reason = str(getattr(error, "reason", None) or error)
        raise SubmitFailed(
            f"Kubernetes did not answer when asked to {doing}: {reason}", kind=kind, do=kind.advice
        ) from error


def _kind_of(error: Any) -> tuple[FailureKind, str]:
    try:
        words = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        words = str(error.reason)
    if error.status == 403:
        return (FailureKind.QUOTA if "exceeded quota" in words else FailureKind.FORBIDDEN), words
    if error.status == 401:
        return FailureKind.FORBIDDEN, words
    if error.status == 429 or error.status >= 500 or not error.status:
        return FailureKind.UNREACHABLE, f"{error.status} {words}"
    return FailureKind.REFUSED, words
