"""Objects of any kind on a cluster: applied server-side by a field manager, found by labels, reached through the API.

Source: the Kubernetes documentation, "Server-Side Apply": what a manager applies is its own until somebody else changes
it, and what it applies no longer is removed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelway.platforms.kubernetes.api import CONFLICT, NOT_FOUND, Api, Manifest, Object, path_of, translate_errors

APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Kind:
    """A kind of objects in the API."""

    api_version: str
    kind: str

    def manifest(self, namespace: str, name: str) -> Manifest:
        """Return what names an object of this kind."""
        metadata = {"namespace": namespace, "name": name}
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata}


def kind_of(manifest: Object) -> Kind:
    """Return the kind of an object."""
    return Kind(manifest["apiVersion"], manifest["kind"])


def title(manifest: Object) -> str:
    """Return how messages call an object."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


class Objects:
    """The objects of one cluster, as one field manager sees them."""

    def __init__(self, api: Api, *, manager: str) -> None:
        """Apply as ``manager``."""
        self.api, self.manager = api, manager

    def apply(self, manifest: Manifest, *, manager: str | None = None) -> Object:
        """Make an object what a manifest says, whatever others have changed of these fields, and return it."""
        with translate_errors(f"apply the {title(manifest)} in namespace {manifest['metadata']['namespace']}"):
            query = [("fieldManager", manager or self.manager), ("force", "true")]
            return self.api.call("PATCH", _place(manifest), manifest, content=APPLY, query=query, warn=title(manifest))

    def changes(self, manifest: Manifest, found: Object) -> list[str]:
        """Return what others have changed of what a manifest says, a phrase for each field; nothing is changed.

        :param found: the object as it is
        """
        from kubernetes.client.exceptions import ApiException

        with translate_errors(f"compare the {title(manifest)} with its manifest"):
            try:
                query = [("fieldManager", self.manager), ("dryRun", "All")]
                applied = self.api.call("PATCH", _place(manifest), manifest, content=APPLY, query=query)
            except ApiException as error:
                if error.status != CONFLICT:
                    raise
                causes = (json.loads(error.body).get("details") or {}).get("causes") or ()
                return [f"{cause.get('field')} ({cause.get('message')})" for cause in causes]
        return list(differences(applied, found))

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object; None where there is none, nor where the cluster does not know the kind."""
        from kubernetes.client.exceptions import ApiException

        manifest = kind.manifest(namespace, name)
        with translate_errors(f"read the {title(manifest)} of namespace {namespace}"):
            try:
                return self.api.call("GET", _place(manifest), None)
            except ApiException as error:
                if error.status == NOT_FOUND:
                    return None
                raise

    def select(self, kind: Kind, namespace: str | None, selector: str) -> list[Object]:
        """Return the objects with these labels, of all namespaces where none is named; none of an unknown kind."""
        group, _, version = kind.api_version.rpartition("/")
        if not group:
            return self._core(kind, namespace, selector)
        found = self.api.customs(namespace, selector, group=group, version=version, kind=kind.kind)
        # A list leaves out what each of its members is.
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **each} for each in found]

    def _core(self, kind: Kind, namespace: str | None, selector: str) -> list[Object]:
        place = f"/namespaces/{namespace}" if namespace else ""
        path = f"/api/{kind.api_version}{place}/{kind.kind.lower()}s"
        with translate_errors(
            f"list the {kind.kind}s of {f'namespace {namespace}' if namespace else 'all namespaces'}"
        ):
            items = self.api.call("GET", path, None, query=[("labelSelector", selector)])["items"]
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **each} for each in items]

    def replace(self, manifest: Manifest) -> Object | None:
        """Replace an object unless it was changed since its ``resourceVersion``; None where it was, or is gone."""
        from kubernetes.client.exceptions import ApiException

        with translate_errors(f"replace the {title(manifest)}"):
            try:
                return self.api.call("PUT", _place(manifest), manifest)
            except ApiException as error:
                if error.status in (CONFLICT, NOT_FOUND):
                    return None
                raise

    def delete(self, manifest: Object, *, unchanged: bool = False) -> None:
        """Delete an object, and in the background what it owns; one that is gone is fine.

        :param unchanged: leave one that was changed since its ``resourceVersion``
        """
        from kubernetes.client.exceptions import ApiException

        body: Manifest = {"propagationPolicy": "Background"}
        if unchanged:
            body["preconditions"] = {"resourceVersion": manifest["metadata"]["resourceVersion"]}
        with translate_errors(f"delete the {title(manifest)}"):
            try:
                self.api.call("DELETE", _place(manifest), body)
            except ApiException as error:
                if error.status != NOT_FOUND and not (unchanged and error.status == CONFLICT):
                    raise

    def run_in(self, namespace: str, pod: str, *, container: str, command: Sequence[str]) -> str:
        """Run a command in a container of a pod and return what it printed.

        :raises SubmitFailed: the pod is not there or runs no such container, or the API server does not answer
        """
        import websocket
        from kubernetes import client, stream
        from kubernetes.client.exceptions import ApiException

        # The library replaces a method of the client that it is given, for as long as the stream lasts.
        own = client.ApiClient(self.api.client.configuration)
        with translate_errors(f"run a command in the pod {pod} of namespace {namespace}"):
            try:
                answer = stream.stream(
                    client.CoreV1Api(own).connect_get_namespaced_pod_exec,
                    pod,
                    namespace,
                    container=container,
                    command=list(command),
                    stdin=False,
                    stdout=True,
                    stderr=True,
                    tty=False,
                    _preload_content=False,
                    _request_timeout=30,
                )
                try:
                    answer.run_forever(timeout=30)
                    return str(answer.read_stdout())
                finally:
                    # Also the socket, which an ended stream leaves open.
                    answer.sock.shutdown()
            except websocket.WebSocketException as error:
                raise _refused_stream(error) from error
            except AttributeError as error:
                # The library fails at its own refusal of a stream, which has no body.
                if not isinstance(error.__context__, ApiException):
                    raise
                raise _refused_stream(error.__context__.__context__) from error

    def page(self, namespace: str, pod: str, *, port: int, path: str) -> str:
        """Return what a pod's port answers, through the API server.

        :raises SubmitFailed: it does not answer
        """
        with translate_errors(f"read {path} of the pod {pod} in namespace {namespace}"):
            return self.api.text(f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}")


def _refused_stream(error: BaseException | None) -> Exception:
    """Return the refusal of a stream as the library raises that of another call: with status and body, if any."""
    from kubernetes.client.exceptions import ApiException

    found = ApiException(status=getattr(error, "status_code", 0), reason=str(error))
    found.body = getattr(error, "resp_body", None)
    refusal: Exception = found
    return refusal


def _place(manifest: Object) -> str:
    return f"{path_of(manifest)}/{manifest['metadata']['name']}"


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of fields below the top that have another value, apart from what the server itself writes."""
    for key in wanted:
        if key not in ("apiVersion", "kind", "metadata", "status"):
            yield from _differences(wanted[key], found.get(key), f".{key}")


def _differences(wanted: Any, found: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in {**wanted, **found}:
            yield from _differences(wanted.get(key), found.get(key), f"{path}.{key}")
    elif wanted != found:
        yield f"{path} is {json.dumps(found)}, not {json.dumps(wanted)}"


def owned_fields(found: Object, manager: str) -> Mapping[str, Any]:
    """Return the fields of an object that a manager applied and that nobody else has changed since."""
    for entry in found["metadata"].get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Mapping[str, Any] = entry.get("fieldsV1") or {}
            return fields
    return {}
