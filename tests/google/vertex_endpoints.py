"""The rules of Vertex AI's models and endpoints (API v1), with a process of our server for each deployed model.

Of facts: models never change, a split adds up to 100 or is empty, a model with traffic is not undeployed, deploying is
an operation that fails where the container does not answer its health route, and an etag that is not the newest is
refused.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.google.counted import Monitoring
from tests.google.documents import Invalid
from tests.google.fake import Call, GoogleFake, Refused
from tests.google.lists import filtered, page_of
from tests.google.served import Backend, Router, Server, chosen

Object = dict[str, Any]
_PLACE = "aiplatform.projects.locations"
_ENDPOINT_ID = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_DEPLOYED_ID = re.compile(r"[0-9]{1,10}")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_FIELDS = ("description", "displayName", "labels", "trafficSplit")


class VertexEndpoints:
    """Models, pools and endpoints of all projects and regions."""

    def __init__(
        self, fake: GoogleFake, *, folder: Path, monitoring: Monitoring, login: tuple[str, str] | tuple[None, None]
    ) -> None:
        self._fake, self._folder, self._monitoring, self._login = fake, folder, monitoring, login
        self._models: dict[str, Object] = {}
        self._pools: dict[str, Object] = {}
        self._endpoints: dict[str, Object] = {}
        self._servers: dict[tuple[str, str], Server] = {}
        self._ended: list[Server] = []
        self._routers: dict[str, Router] = {}
        #: name → the operation, and what returns its end: an error, a response, or None while it runs
        self._operations: dict[str, tuple[Object, Callable[[], Object | None]]] = {}
        self._cancels: dict[str, Callable[[], None]] = {}
        self.ignores_cancel = False
        """Whether operations that are cancelled continue nevertheless: cancelling is best effort."""
        self.when_cancelled: Callable[[], None] = lambda: None
        """What else happens when an operation is cancelled."""
        self.failing: set[str] = set()
        """Versions whose containers answer every request with 500."""
        self.held: set[str] = set()
        """Versions whose containers never answer."""
        for verb in ("create", "get", "list", "patch", "delete", "deployModel", "undeployModel", "update"):
            fake.handle(f"{_PLACE}.endpoints.{verb}", getattr(self, f"_{verb}"))
        fake.handle(f"{_PLACE}.models.upload", self._upload)
        for verb in ("get", "list", "delete"):
            fake.handle(f"{_PLACE}.models.{verb}", getattr(self, f"_{verb}_model" + ("s" if verb == "list" else "")))
        fake.handle(f"{_PLACE}.deploymentResourcePools.create", self._create_pool)
        fake.handle(f"{_PLACE}.deploymentResourcePools.get", self._get_pool)
        for kind in ("endpoints", "models", "deploymentResourcePools"):
            fake.handle(f"{_PLACE}.{kind}.operations.get", self._get_operation)
            fake.handle(f"{_PLACE}.{kind}.operations.cancel", self._cancel_operation)
        fake.handle(f"{_PLACE}.endpoints.operations.list", self._list_operations)

    # Models and pools.

    def _upload(self, call: Call) -> Object:
        self._settle()
        parent, body = call.names["parent"], call.body
        model_id = body.get("modelId") or uuid.uuid4().hex
        if not _MODEL_ID.fullmatch(model_id):
            raise Invalid(f"modelId: '{model_id}' is not valid.")
        name = f"{parent}/models/{model_id}"
        if name in self._models:
            raise Refused(409, f"Model {name} already exists.", code="ALREADY_EXISTS")
        container = body["model"].get("containerSpec") or {}
        if container.get("predictRoute") and container.get("invokeRoutePrefix"):
            raise Invalid("Only one of predict_route or invoke_route_prefix can be set.")
        if container["imageUri"].startswith("oci-layout:"):
            raise Invalid(f"containerSpec.imageUri: '{container['imageUri']}' is not a valid image.")
        self._check_labels(body["model"])
        now = self._fake.clock.stamp()
        made = {**body["model"], "name": name, "versionId": "1", "createTime": now, "updateTime": now}

        def uploaded() -> Object:
            self._models[name] = made
            return {"response": {"model": name, "modelVersionId": "1"}}

        return self._operation(name, uploaded)

    def _get_model(self, call: Call) -> Object:
        self._settle()
        return self._of(self._models, call.names["name"])

    def _list_models(self, call: Call) -> Object:
        self._settle()
        return self._page(self._models, call, "models")

    def _delete_model(self, call: Call) -> Object:
        self._settle()
        found = self._of(self._models, call.names["name"])
        if any(each["model"] == found["name"] for one in self._endpoints.values() for each in one["deployedModels"]):
            raise Refused(400, f"Model {found['name']} is deployed.", code="FAILED_PRECONDITION")
        del self._models[found["name"]]
        return self._operation(found["name"], lambda: {"response": {}})

    def _create_pool(self, call: Call) -> Object:
        name = f"{call.names['parent']}/deploymentResourcePools/{call.body['deploymentResourcePoolId']}"
        if name in self._pools:
            raise Refused(409, f"{name} already exists.", code="ALREADY_EXISTS")
        self._pools[name] = {**call.body["deploymentResourcePool"], "name": name}
        return self._operation(name, lambda: {"response": self._pools[name]})

    def _get_pool(self, call: Call) -> Object:
        return self._of(self._pools, call.names["name"])

    # Endpoints.

    def _create(self, call: Call) -> Object:
        self._settle()
        endpoint_id = call.query.get("endpointId") or str(uuid.uuid4().int % 10**19)
        if not _ENDPOINT_ID.fullmatch(endpoint_id):
            raise Invalid(f"endpointId: '{endpoint_id}' is not valid.")
        name = f"{call.names['parent']}/endpoints/{endpoint_id}"
        if name in self._endpoints:
            raise Refused(409, f"Endpoint {name} already exists.", code="ALREADY_EXISTS")
        self._check_labels(call.body)
        router = self._routers[name] = Router(
            lambda method, path, headers: self._choose(name, method, path),
            lambda backend, status, seconds: self._count(name, backend, status, seconds),
        )
        made = {**call.body, "name": name, "deployedModels": [], "createTime": self._fake.clock.stamp()}
        if made.get("dedicatedEndpointEnabled"):
            made["dedicatedEndpointDns"] = router.url.removeprefix("http://")
        self._endpoints[name] = self._touched(made)
        return self._operation(name, lambda: {"response": self._document(self._endpoints[name])})

    def _get(self, call: Call) -> Object:
        self._settle()
        return self._document(self._of(self._endpoints, call.names["name"]))

    def _list(self, call: Call) -> Object:
        self._settle()
        return self._page(self._endpoints, call, "endpoints")

    def _patch(self, call: Call) -> Object:
        self._settle()
        endpoint = self._of(self._endpoints, call.names["name"])
        etag = call.body.get("etag")
        if etag and etag != endpoint["etag"]:
            raise Refused(409, f"The etag '{etag}' is not that of the endpoint.", code="ABORTED")
        masked = [each for each in call.query.get("updateMask", "").split(",") if each]
        if not masked:
            raise Invalid("update_mask is required.")
        for path in masked:
            if path not in _FIELDS:
                raise Invalid(f"Invalid update_mask path: {path}")
        changed = {key: call.body.get(key) for key in masked}
        if "trafficSplit" in changed:
            self._check_split(endpoint, changed["trafficSplit"] or {})
        endpoint.update({key: value for key, value in changed.items() if value is not None})
        if not changed.get("trafficSplit", True):
            endpoint["trafficSplit"] = {}
        return self._document(self._touched(endpoint))

    def _update(self, call: Call) -> Object:
        """UpdateEndpointLongRunning, which changes one field."""
        self._settle()
        endpoint, wanted = self._of(self._endpoints, call.names["name"]), call.body["endpoint"]
        for key in wanted:
            if key != "clientConnectionConfig" and wanted[key] != endpoint.get(key):
                raise Invalid(f"Updating the field {key} is not supported.")

        def done() -> Object:
            endpoint["clientConnectionConfig"] = wanted["clientConnectionConfig"]
            return {"response": self._document(self._touched(endpoint))}

        return self._operation(endpoint["name"], done)

    def _delete(self, call: Call) -> Object:
        self._settle()
        endpoint = self._of(self._endpoints, call.names["name"])
        if endpoint["deployedModels"]:
            raise Refused(400, "The endpoint has deployed models.", code="FAILED_PRECONDITION")
        del self._endpoints[endpoint["name"]]
        self._routers.pop(endpoint["name"]).stop()
        return self._operation(endpoint["name"], lambda: {"response": {}})

    def _deployModel(self, call: Call) -> Object:
        self._settle()
        endpoint = self._of(self._endpoints, call.names["endpoint"])
        deployed: Object = dict(call.body["deployedModel"])
        key, model = (
            deployed.setdefault("id", str(uuid.uuid4().int % 10**10)),
            self._of(self._models, deployed["model"]),
        )
        if not _DEPLOYED_ID.fullmatch(key):
            raise Invalid(f"deployedModel.id: '{key}' is not valid.")
        if any(each["id"] == key for each in endpoint["deployedModels"]) or (endpoint["name"], key) in self._servers:
            raise Refused(409, f"DeployedModel {key} already exists.", code="ALREADY_EXISTS")
        pool = deployed.get("sharedResources")
        if pool and pool not in self._pools:
            raise Refused(404, f"DeploymentResourcePool {pool} is not found.")
        if split := call.body.get("trafficSplit"):
            self._check_split(endpoint, {**split, key: split.get("0", 0)})
        server = self._servers[endpoint["name"], key] = self._server(endpoint, deployed, model)

        def done() -> Object | None:
            if server.is_ready() and server.version not in self.held:
                count = (deployed.get("dedicatedResources") or {}).get("minReplicaCount", 1)
                status = {"availableReplicaCount": count}
                made = {**deployed, "createTime": self._fake.clock.stamp(), "status": status, "modelVersionId": "1"}
                endpoint["deployedModels"].append(made)
                self._touched(endpoint)
                return {"response": {"deployedModel": made}}
            if not server.has_ended:
                return None
            self._ended.append(self._servers.pop((endpoint["name"], key)))
            message = server.problem or (
                "Model server exited unexpectedly. Model server logs can be found at "
                f"https://console.cloud.google.com/logs/viewer?endpoint={endpoint['name']}"
            )
            return {"error": {"code": 9, "message": message}}

        def cancelled() -> None:
            self._ended.append(self._servers.pop((endpoint["name"], key)))
            server.stop()

        return self._operation(endpoint["name"], done, cancelled)

    def _undeployModel(self, call: Call) -> Object:
        self._settle()
        endpoint = self._of(self._endpoints, call.names["endpoint"])
        key = call.body["deployedModelId"]
        left = [each for each in endpoint["deployedModels"] if each["id"] != key]
        if len(left) == len(endpoint["deployedModels"]):
            raise Refused(404, f"DeployedModel {key} is not found.")
        if split := call.body.get("trafficSplit"):
            self._check_split({**endpoint, "deployedModels": left}, split)
            endpoint["trafficSplit"] = split
        if (endpoint.get("trafficSplit") or {}).get(key) and left:
            message = f"DeployedModel {key} has traffic: it cannot be undeployed."
            raise Refused(400, message, code="FAILED_PRECONDITION")
        endpoint["deployedModels"] = left
        if not left:
            endpoint["trafficSplit"] = {}
        self._touched(endpoint)
        server = self._servers.pop((endpoint["name"], key))
        server.stop()
        self._ended.append(server)
        return self._operation(endpoint["name"], lambda: {"response": {}})

    # Rules.

    def _of(self, known: Mapping[str, Object], name: str) -> Object:
        if name not in known:
            raise Refused(404, f"{name} is not found.")
        return known[name]

    def _page(self, known: Mapping[str, Object], call: Call, key: str) -> Object:
        prefix = f"{call.names['parent']}/{key}/"
        found = [self._document(each) for name, each in known.items() if name.startswith(prefix)]
        return page_of(filtered(found, call.query.get("filter", "")), key=key, query=call.query)

    def _check_labels(self, body: Mapping[str, Any]) -> None:
        for key, value in (body.get("labels") or {}).items():
            if not (_LABEL.fullmatch(key) and _LABEL.fullmatch(value)):
                raise Invalid(f"labels: '{key}={value}' has other characters than a-z, 0-9, _ and -.")

    def _check_split(self, endpoint: Mapping[str, Any], split: Mapping[str, int]) -> None:
        if split and sum(split.values()) != 100:
            raise Invalid(f"trafficSplit: percentages must add up to 100, got {dict(split)}.")
        unknown = split.keys() - {each["id"] for each in endpoint["deployedModels"]}
        if unknown:
            raise Invalid(f"The following DeployedModel ID(s) {sorted(unknown)} do not exist.")

    def _touched(self, endpoint: Object) -> Object:
        endpoint |= {"etag": uuid.uuid4().hex, "updateTime": self._fake.clock.stamp()}
        return endpoint

    def _document(self, resource: Mapping[str, Any]) -> Object:
        return {key: value for key, value in json.loads(json.dumps(resource)).items() if value not in ([], {})}

    def _server(self, endpoint: Object, deployed: Object, model: Object) -> Server:
        container = model["containerSpec"]
        environment = {each["name"]: each.get("value", "") for each in container.get("env") or ()}
        route = container.get("predictRoute") or f"/v1/endpoints/x/deployedModels/{deployed['id']}:predict"
        environment |= {
            "AIP_HTTP_PORT": "0",
            "AIP_HEALTH_ROUTE": container.get("healthRoute", "/health"),
            "AIP_PREDICT_ROUTE": route,
            "AIP_MODE": "PREDICTION",
            "AIP_ENDPOINT_ID": endpoint["name"].rpartition("/")[2],
            "AIP_DEPLOYED_MODEL_ID": deployed["id"],
        }
        return Server(
            self._folder / "deployed" / uuid.uuid4().hex[:8],
            image=container["imageUri"],
            environment=environment,
            arguments=container.get("args") or (),
            login=self._login,
        )

    # Operations.

    def _operation(
        self, resource: str, done: Callable[[], Object | None], cancelled: Callable[[], None] = lambda: None
    ) -> Object:
        operation = {"name": f"{resource}/operations/{uuid.uuid4().int % 10**18}"}
        self._operations[operation["name"]] = (operation, done)
        self._cancels[operation["name"]] = cancelled
        return dict(operation)

    def _cancel_operation(self, call: Call) -> Object:
        name = call.names["name"]
        operation = self._get_operation(call)
        if operation.get("done"):
            raise Refused(400, f"{name} has ended.", code="FAILED_PRECONDITION")
        self.when_cancelled()
        if not self.ignores_cancel:
            self._cancels[name]()
            operation |= {"done": True, "error": {"code": 1, "message": "The operation was cancelled."}}
        return {}

    def _settle(self) -> None:
        for operation, done in self._operations.values():
            if "done" not in operation and (end := done()) is not None:
                operation |= {"done": True, **end}

    def _get_operation(self, call: Call) -> Object:
        self._settle()
        if call.names["name"] not in self._operations:
            raise Refused(404, f"{call.names['name']} is not found.")
        return self._operations[call.names["name"]][0]

    def _list_operations(self, call: Call) -> Object:
        self._settle()
        prefix = f"{call.names['name']}/operations/"
        found = [one for name, (one, _) in self._operations.items() if name.startswith(prefix)]
        if call.query.get("filter") == "done=false":
            found = [one for one in found if not one.get("done")]
        return page_of(found, key="operations", query=call.query)

    # Requests.

    def _choose(self, name: str, method: str, path: str) -> Backend:
        with self._fake.lock:
            endpoint = self._endpoints.get(name)
            rest = path.removeprefix(f"/v1/{name}")
            if endpoint is None or rest == path or method != "POST":
                return Backend("", status=404, message="Not Found")
            alone = re.match(r"/deployedModels/([0-9]+)(?=/invoke/)", rest)
            key = alone[1] if alone else chosen(list((endpoint.get("trafficSplit") or {}).items()))
            server = self._servers.get((name, key or ""))
            deployed = next((each for each in endpoint["deployedModels"] if each["id"] == key), None)
            if key is None or server is None or deployed is None:
                return Backend("", status=404, message="no deployed model gets requests")
            container = self._models[deployed["model"]]["containerSpec"]
            within = self._path(container, rest[alone.end() :] if alone else rest)
            if within is None:
                return Backend("", status=400, message="the model has no such route")
            if server.version in self.failing:
                return Backend(key, status=500, message="the model fails")
            return Backend(key, server, path=within)

    def _path(self, container: Mapping[str, Any], rest: str) -> str | None:
        """Return the path in the container; None where it is not reachable so."""
        if rest.startswith("/invoke/"):
            return rest.removeprefix("/invoke") if container.get("invokeRoutePrefix") else None
        if rest in (":rawPredict", ":predict") and not container.get("invokeRoutePrefix"):
            return container.get("predictRoute")
        return None

    def _count(self, name: str, backend: Backend, status: int, seconds: float) -> None:
        if not backend.name:
            return
        labels = {
            "resource.labels.endpoint_id": name.rpartition("/")[2],
            "metric.labels.deployed_model_id": backend.name,
            "metric.labels.response_code": str(status),
        }
        prefix, resource = "aiplatform.googleapis.com/prediction/online", "aiplatform.googleapis.com/Endpoint"
        self._monitoring.record(f"{prefix}/response_count", resource, labels)
        latency = {**labels, "metric.labels.latency_type": "total"}
        self._monitoring.record(f"{prefix}/prediction_latencies", resource, latency, seconds * 1000)

    # For tests.

    def servers(self) -> list[Server]:
        """The containers that run."""
        return [each for each in self._servers.values() if not each.has_ended]

    def close(self) -> None:
        """Stop everything."""
        for router in self._routers.values():
            router.stop()
        for server in (*self._servers.values(), *self._ended):
            server.close()
