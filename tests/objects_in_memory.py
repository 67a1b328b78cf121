"""A cluster in memory whose controllers do not run: what is applied is kept, and statuses are written by the tests."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from modelway.platforms.kubernetes.objects import Kind, differences, title

Plain = dict[str, Any]


class ObjectsInMemory:
    """The calls of ``platforms.kubernetes.objects.Objects`` that an endpoint makes."""

    manager = "modelway"

    def __init__(self, *, version: tuple[int, int] = (1, 36)) -> None:
        self.all: dict[tuple[str, str, str], Plain] = {}
        self.api = self
        self._version = version
        #: by kind, what its controller reports of an object
        self.controllers: dict[str, Any] = {}
        #: the pods that controllers have made, by the kind of the object that they are of
        self.pods_of: dict[str, list[Plain]] = {}

    def version(self) -> tuple[int, int]:
        return self._version

    def apply(self, manifest: Plain, *, manager: str | None = None) -> Plain:
        key = self._key(manifest)
        applied = copy.deepcopy(manifest)
        applied["metadata"] |= {"generation": 1, "uid": title(manifest)}
        fields = {"f:spec": json.loads(json.dumps(manifest.get("spec") or {}, sort_keys=True))}
        applied["metadata"]["managedFields"] = [{"manager": self.manager, "operation": "Apply", "fieldsV1": fields}]
        if manifest["kind"] == "Service":
            former = self.all.get(key)
            applied["spec"]["clusterIP"] = former["spec"]["clusterIP"] if former else f"10.0.0.{len(self.all) + 1}"
        self.all[key] = applied
        self._control(applied)
        return copy.deepcopy(applied)

    def change(self, kind: str, name: str, **spec: Any) -> None:
        """Change an object by hand."""
        (found,) = (one for one in self.all.values() if (one["kind"], one["metadata"]["name"]) == (kind, name))
        found["spec"] |= spec
        found["metadata"]["managedFields"][0]["fieldsV1"] = {"f:spec": {}}

    def changes(self, manifest: Plain, found: Mapping[str, Any]) -> list[str]:
        return list(differences(manifest, found))

    def create(self, manifest: Plain) -> Plain | None:
        key = self._key(manifest)
        if key in self.all:
            return None
        self.all[key] = {**copy.deepcopy(manifest)}
        self.all[key]["metadata"]["resourceVersion"] = "1"
        return copy.deepcopy(self.all[key])

    def replace(self, manifest: Plain) -> Plain | None:
        key, version = self._key(manifest), manifest["metadata"]["resourceVersion"]
        if key not in self.all or self.all[key]["metadata"]["resourceVersion"] != version:
            return None
        self.all[key] = copy.deepcopy(manifest)
        self.all[key]["metadata"]["resourceVersion"] = f"{int(version) + 1}"
        return copy.deepcopy(self.all[key])

    def find(self, kind: Kind, namespace: str, name: str) -> Plain | None:
        return copy.deepcopy(self.all.get((kind.kind, namespace, name)))

    def select(self, kind: Kind, namespace: str | None, selector: str) -> list[Plain]:
        wanted = dict(word.split("=") for word in selector.split(","))
        found = [one for key, one in self.all.items() if key[0] == kind.kind and namespace in (None, key[1])]
        return [copy.deepcopy(one) for one in found if wanted.items() <= one["metadata"].get("labels", {}).items()]

    def delete(self, manifest: Mapping[str, Any], *, unchanged: bool = False) -> None:
        found = self.all.get(self._key(manifest))
        if found and unchanged and found["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            return
        self.all.pop(self._key(manifest), None)

    def pods(self, namespace: str, selector: str) -> list[Plain]:
        wanted = dict(word.split("=") for word in selector.split(","))
        found = [pod for kind, made in self.pods_of.items() for pod in made if self.of(kind)]
        return [copy.deepcopy(pod) for pod in found if wanted.items() <= pod["metadata"]["labels"].items()]

    def of(self, kind: str) -> list[Plain]:
        """Return the objects of a kind."""
        return [one for key, one in self.all.items() if key[0] == kind]

    def _control(self, one: Plain) -> None:
        if report := self.controllers.get(one["kind"]):
            one["status"] = report(one)

    def _key(self, manifest: Mapping[str, Any]) -> tuple[str, str, str]:
        return manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"]
