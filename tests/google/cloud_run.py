"""The rules of Cloud Run's services (API v2), with a process of our server for each revision.

Of facts: revisions never change, a split adds up to 100 and names revisions that there are, an etag that is not the
newest is refused, a revision becomes ready when its container answers, and one that fails leaves the split as it was.
"""

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.google.counted import Monitoring
from tests.google.documents import Invalid
from tests.google.fake import Call, GoogleFake, Refused
from tests.google.lists import page_of
from tests.google.logins import claims_of
from tests.google.served import Backend, Router, Server, chosen

Object = dict[str, Any]
_SERVICES = "run.projects.locations.services"
_ID = re.compile(r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?")
_REVISION = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_RESERVED = ("run.googleapis.com", "cloud.googleapis.com", "serving.knative.dev", "autoscaling.knative.dev")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
#: what a client may change
_FIELDS = (
    *("annotations", "description", "ingress", "invokerIamDisabled", "labels", "scaling", "template", "traffic"),
)
_CPUS = ("1", "2", "4", "6", "8")


class CloudRun:
    """The services of all projects and regions."""

    def __init__(
        self, fake: GoogleFake, *, folder: Path, monitoring: Monitoring, login: tuple[str, str] | tuple[None, None]
    ) -> None:
        self._fake, self._folder, self._monitoring, self._login = fake, folder, monitoring, login
        self._services: dict[str, Object] = {}
        self._revisions: dict[str, Object] = {}
        self._servers: dict[str, Server] = {}
        self._ended: list[Server] = []
        self._routers: dict[tuple[str, str], Router] = {}
        self._operations: dict[str, tuple[str, int]] = {}
        self.failing: set[str] = set()
        """Versions whose containers answer every request with 500."""
        self.deadline_seconds = 240.0
        """Of the fake's clock, after which a container that does not answer has failed."""
        self.held: set[str] = set()
        """Versions whose containers never answer."""
        self.refused_splits = 0
        """How many of the next changes of a split end without their effect."""
        self.keeps_removed = False
        """Whether the removal of services takes long."""
        self.checks_callers = False
        """Whether a service that is not public refuses requests without an ID token."""
        for verb in ("create", "get", "list", "patch", "delete"):
            fake.handle(f"{_SERVICES}.{verb}", getattr(self, f"_{verb}"))
        fake.handle(f"{_SERVICES}.revisions.get", self._get_revision)
        fake.handle("run.projects.locations.operations.get", self._get_operation)

    # Methods.

    def _create(self, call: Call) -> Object:
        self._settle()
        service_id = call.query["serviceId"]
        if not _ID.fullmatch(service_id):
            raise Invalid(f"serviceId: '{service_id}' must be a DNS label of fewer than 50 characters.")
        name = f"{call.names['parent']}/services/{service_id}"
        if name in self._services:
            raise Refused(409, f"Resource '{service_id}' already exists.", code="ALREADY_EXISTS")
        self._check(name, call.body)
        now = self._fake.clock.stamp()
        service: Object = {"name": name, "uid": str(uuid.uuid4()), "createTime": now, "generation": "0"}
        self._services[name] = service
        self._router(name, "")
        return self._change(service, {key: call.body[key] for key in _FIELDS if key in call.body})

    def _get(self, call: Call) -> Object:
        self._settle()
        return self._document(self._found(call.names["name"]))

    def _list(self, call: Call) -> Mapping[str, Any]:
        self._settle()
        parent = call.names["parent"]
        if parent.endswith("/-"):
            raise Invalid("Location '-' is not allowed.")
        found = [
            self._document(each) for name, each in self._services.items() if name.startswith(f"{parent}/services/")
        ]
        return page_of(found, key="services", query=call.query)

    def _patch(self, call: Call) -> Object:
        self._settle()
        service = self._found(call.names["name"])
        etag = call.body.get("etag")
        if etag and etag != service["etag"]:
            raise Refused(409, f"The etag '{etag}' does not match the current etag of the service.", code="ABORTED")
        masked = [each for each in call.query.get("updateMask", "").split(",") if each]
        for path in masked:
            if path.partition(".")[0] not in _FIELDS:
                raise Invalid(f"Invalid update_mask path: {path}")
        # Without a mask all of it is replaced.
        changed = {key: call.body.get(key) for key in masked or _FIELDS}
        self._check(service["name"], {**service, **changed})
        return self._change(service, changed)

    def _delete(self, call: Call) -> Object:
        self._settle()
        service = self._found(call.names["name"])
        service["deleteTime"] = self._fake.clock.stamp()
        if not self.keeps_removed:
            self._remove(service["name"])
        return self._operation(service["name"])

    def _remove(self, name: str) -> None:
        for key in [each for each in self._revisions if each.startswith(f"{name}/")]:
            self._servers[key].stop()
            self._ended.append(self._servers.pop(key))
            del self._revisions[key]
        for place in [each for each in self._routers if each[0] == name]:
            self._routers.pop(place).stop()
        del self._services[name]

    def _get_revision(self, call: Call) -> Object:
        self._settle()
        found = self._revisions.get(call.names["name"])
        if found is None:
            raise Refused(404, f"Resource '{call.names['name'].rpartition('/')[2]}' was not found")
        return {key: value for key, value in found.items() if not key.startswith("_")}

    def _get_operation(self, call: Call) -> Object:
        self._settle()
        name = call.names["name"]
        if name not in self._operations:
            raise Refused(404, f"Operation not found: {name}")
        service = self._services.get(self._operations[name][0])
        if service is None:
            return {"name": name, "done": True, "response": {}}
        if service["reconciling"]:
            return {"name": name}
        failed = service["terminalCondition"]
        if failed["state"] == "CONDITION_FAILED":
            return {"name": name, "done": True, "error": {"code": 9, "message": failed["message"]}}
        return {"name": name, "done": True, "response": self._document(service)}

    # Rules.

    def _found(self, name: str) -> Object:
        if name not in self._services:
            raise Refused(404, f"Resource '{name.rpartition('/')[2]}' of kind 'SERVICE' was not found.")
        return self._services[name]

    def _check(self, name: str, body: Mapping[str, Any]) -> None:
        template = body.get("template") or {}
        for place in (body, template):
            for kind in ("labels", "annotations"):
                for key in place.get(kind) or {}:
                    if any(key.startswith(each) for each in _RESERVED):
                        raise Invalid(f"{kind}: '{key}' is reserved.")
            for key, value in (place.get("labels") or {}).items():
                if not (_LABEL.fullmatch(key) and _LABEL.fullmatch(value)):
                    raise Invalid(f"labels: '{key}={value}' has other characters than a-z, 0-9, _ and -.")
        self._check_container(template)
        self._check_revision(name, template)
        self._check_traffic(name, body.get("traffic") or [], template)

    def _check_container(self, template: Mapping[str, Any]) -> None:
        containers = template.get("containers") or []
        if len(containers) != 1 or len(containers[0].get("ports") or []) > 1:
            raise Invalid("template.containers: exactly one container with one port.")
        if "@" in containers[0]["image"] and containers[0]["image"].startswith("oci-layout:"):
            raise Invalid(f"template.containers[0].image: '{containers[0]['image']}' is not a valid image.")
        for each in containers[0].get("env") or []:
            if each["name"] in ("PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"):
                raise Invalid(f"The following reserved env names were provided: {each['name']}.")
        limits = (containers[0].get("resources") or {}).get("limits") or {}
        if "cpu" in limits and limits["cpu"] not in _CPUS and not 0.08 <= float(limits["cpu"]) < 1:
            raise Invalid(f"spec.template.spec.containers[0].resources.limits.cpu: Invalid value '{limits['cpu']}'.")

    def _check_revision(self, name: str, template: Mapping[str, Any]) -> None:
        revision, service = template.get("revision"), name.rpartition("/")[2]
        if not revision:
            return
        if not _REVISION.fullmatch(revision) or not revision.startswith(f"{service}-"):
            raise Invalid(f"template.revision: '{revision}' must begin with '{service}-' and be a DNS label.")
        known = self._revisions.get(f"{name}/revisions/{revision}")
        if known is not None and known["_template"] != _text(template):
            message = f"Revision named '{revision}' with different configuration already exists."
            raise Refused(409, message, code="ALREADY_EXISTS")

    def _check_traffic(self, name: str, traffic: list[Object], template: Mapping[str, Any]) -> None:
        if not traffic:
            return
        percents = [int(each.get("percent") or 0) for each in traffic]
        if sum(percents) != 100 or any(not 0 <= each <= 100 for each in percents):
            raise Invalid(f"traffic: percents must add up to 100, got {percents}.")
        tags = [each["tag"] for each in traffic if each.get("tag")]
        if len(tags) != len(set(tags)):
            raise Invalid(f"traffic: a tag is used twice: {tags}.")
        service = name.rpartition("/")[2]
        for each in traffic:
            kind = each.get("type")
            if kind == "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION":
                known = f"{name}/revisions/{each['revision']}" in self._revisions
                if not known and each["revision"] != template.get("revision"):
                    raise Invalid(f"traffic: Revision '{each['revision']}' of service '{service}' does not exist.")
            elif kind != "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST":
                raise Invalid(f"traffic: type '{kind}' is not allowed.")
            if len(f"{each.get('tag', '')}---{service}") > 63:
                raise Invalid(f"traffic: tag '{each['tag']}' and service are longer than a DNS label together.")

    # Changes.

    def _change(self, service: Object, changed: Mapping[str, Any]) -> Object:
        split = "traffic" in changed
        for key, value in changed.items():
            if value is None:
                service.pop(key, None)
            else:
                service[key] = value
        now = self._fake.clock.stamp()
        service |= {"generation": str(int(service["generation"]) + 1), "etag": f'"{uuid.uuid4()}"', "updateTime": now}
        service["reconciling"] = True
        service["_refused"] = split and bool(self.refused_splits) and bool(service.get("trafficStatuses"))
        if service["_refused"]:
            self.refused_splits -= 1
        if "template" in changed:
            self._revise(service)
        return self._operation(service["name"])

    def _operation(self, name: str) -> Object:
        place = name.partition("/services/")[0]
        operation = f"{place}/operations/{uuid.uuid4()}"
        self._operations[operation] = (name, 0)
        return {"name": operation}

    def _revise(self, service: Object) -> None:
        template = service["template"]
        short = template.get("revision") or f"{service['name'].rpartition('/')[2]}-{uuid.uuid4().hex[:8]}"
        name = f"{service['name']}/revisions/{short}"
        service["latestCreatedRevision"] = name
        if name in self._revisions:
            return
        container = template["containers"][0]
        environment = {each["name"]: each.get("value", "") for each in container.get("env") or ()}
        environment |= {"PORT": "0", "K_SERVICE": service["name"].rpartition("/")[2], "K_REVISION": short}
        self._servers[name] = Server(
            self._folder / "revisions" / f"{uuid.uuid4().hex[:8]}",
            image=container["image"],
            environment=environment,
            arguments=container.get("args") or (),
            login=self._login,
        )
        self._revisions[name] = {
            "name": name,
            "uid": str(uuid.uuid4()),
            "createTime": self._fake.clock.stamp(),
            "generation": "1",
            "labels": template.get("labels") or {},
            "annotations": template.get("annotations") or {},
            "containers": template["containers"],
            "logUri": f"https://console.cloud.google.com/logs/viewer?revision={short}",
            "reconciling": True,
            "conditions": [{"type": "Ready", "state": "CONDITION_RECONCILING", "message": "Deploying Revision."}],
            "_template": _text(template),
            "_began": self._fake.clock.now(),
        }

    def _settle(self) -> None:
        for name in [each for each, service in self._services.items() if "deleteTime" in service]:
            if not self.keeps_removed:
                self._remove(name)
        for name, revision in self._revisions.items():
            if revision["reconciling"]:
                self._settle_revision(name, revision)
        for service in self._services.values():
            if service["reconciling"]:
                self._settle_service(service)

    def _settle_revision(self, name: str, revision: Object) -> None:
        server, short = self._servers[name], name.rpartition("/")[2]
        is_late = self._fake.clock.now() > revision["_began"] + self.deadline_seconds
        is_held = server.version in self.held
        condition: Object
        if server.problem:
            condition = {"state": "CONDITION_FAILED", "reason": "CONTAINER_MISSING", "message": server.problem}
        elif not is_held and server.is_ready():
            condition = {"state": "CONDITION_SUCCEEDED"}
        elif is_late or (server.has_ended and not is_held):
            message = (
                f"Revision '{short}' is not ready and cannot serve traffic. The user-provided container failed to "
                "start and listen on the port defined provided by the PORT=8080 environment variable within the "
                "allocated timeout."
            )
            reason = "HEALTH_CHECK_CONTAINER_ERROR"
            condition = {"state": "CONDITION_FAILED", "revisionReason": reason, "message": message}
        else:
            return
        revision |= {"reconciling": False, "conditions": [{"type": "Ready", **condition}]}

    def _settle_service(self, service: Object) -> None:
        latest = self._revisions[service["latestCreatedRevision"]]
        if latest["reconciling"]:
            return
        service |= {"reconciling": False, "observedGeneration": service["generation"]}
        is_ready = latest["conditions"][0]["state"] == "CONDITION_SUCCEEDED"
        failure = None if is_ready else latest["conditions"][0]["message"]
        if is_ready:
            service["latestReadyRevision"] = latest["name"]
        wanted = service.get("traffic") or [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]
        if service["_refused"]:
            failure = "Routes are not ready: an internal error occurred while the traffic was moved."
        elif all(self._serves(service, each) for each in wanted):
            service["trafficStatuses"] = [self._status(service, each) for each in wanted]
            service["uri"] = self._routers[service["name"], ""].url
            self._scale(service, {self._revision_of(service, each) for each in wanted})
        condition: Object = {"type": "Ready", "state": "CONDITION_SUCCEEDED"}
        if failure is not None:
            condition = {"type": "Ready", "state": "CONDITION_FAILED", "reason": "REVISION_FAILED", "message": failure}
        service["terminalCondition"] = condition

    def _scale(self, service: Object, used: set[str]) -> None:
        """Revisions without a share and a tag have no instance, and none has where the service has none."""
        stopped = (service.get("scaling") or {}).get("scalingMode") == "MANUAL"
        for name in [each for each in self._revisions if each.startswith(f"{service['name']}/")]:
            if stopped or name not in used:
                self._servers[name].stop()
            else:
                self._servers[name].ensure()

    def _revision_of(self, service: Object, target: Mapping[str, Any]) -> str:
        short = target.get("revision")
        return f"{service['name']}/revisions/{short}" if short else str(service.get("latestReadyRevision", ""))

    def _serves(self, service: Object, target: Mapping[str, Any]) -> bool:
        revision = self._revisions.get(self._revision_of(service, target))
        return revision is not None and revision["conditions"][0]["state"] == "CONDITION_SUCCEEDED"

    def _status(self, service: Object, target: Mapping[str, Any]) -> Object:
        found = {key: value for key, value in target.items() if value not in (None, 0, "")}
        if tag := target.get("tag"):
            found["uri"] = self._router(service["name"], tag).url
        return found

    def _document(self, service: Object) -> Object:
        found = {key: value for key, value in service.items() if not key.startswith("_")}
        # As on the wire: 0 is left out.
        found["traffic"] = [
            {key: value for key, value in each.items() if value not in (0, "")} for each in found.get("traffic") or ()
        ]
        return found

    # Requests.

    def _router(self, name: str, tag: str) -> Router:
        if (name, tag) not in self._routers:
            self._routers[name, tag] = Router(
                lambda method, path, headers: self._choose(name, tag, headers),
                lambda backend, status, seconds: self._count(name, backend, status, seconds),
            )
        return self._routers[name, tag]

    def _choose(self, name: str, tag: str, headers: Mapping[str, str]) -> Backend:
        with self._fake.lock:
            service = self._services.get(name)
            if service is None:
                return Backend("", status=404, message="Not Found")
            if not self._may_call(service, headers.get("Authorization") or ""):
                return Backend("", status=403, message="Your client does not have permission to get URL")
            statuses = service.get("trafficStatuses") or []
            if (service.get("scaling") or {}).get("scalingMode") == "MANUAL":
                return Backend("", status=503, message="Service is disabled.")
            if tag:
                revision = next((self._revision_of(service, each) for each in statuses if each.get("tag") == tag), None)
            else:
                percents = [(self._revision_of(service, each), int(each.get("percent") or 0)) for each in statuses]
                revision = chosen(percents)
            if revision is None:
                return Backend("", status=404, message="Page not found")
            self._servers[revision].wait_ready()
            short = revision.rpartition("/")[2]
            if self._servers[revision].version in self.failing:
                return Backend(short, status=500, message="the model fails")
            return Backend(short, self._servers[revision])

    def _may_call(self, service: Object, authorization: str) -> bool:
        if not self.checks_callers or service.get("invokerIamDisabled"):
            return True
        token = authorization.removeprefix("Bearer ")
        return token.count(".") == 2 and claims_of(token)["aud"] == service["uri"]

    def _count(self, name: str, backend: Backend, status: int, seconds: float) -> None:
        if not backend.name:
            return
        labels = {
            "resource.labels.service_name": name.rpartition("/")[2],
            "resource.labels.revision_name": backend.name,
            "metric.labels.response_code_class": f"{status // 100}xx",
        }
        self._monitoring.record("run.googleapis.com/request_count", "cloud_run_revision", labels)
        latencies = "run.googleapis.com/request_latencies"
        self._monitoring.record(latencies, "cloud_run_revision", labels, seconds * 1000)

    # For tests.

    def servers(self) -> list[Server]:
        """The containers that run."""
        return [each for each in self._servers.values() if not each.has_ended]

    def server_of(self, revision: str) -> Server:
        """The container of a revision, by its short name."""
        return next(server for name, server in self._servers.items() if name.endswith(f"/revisions/{revision}"))

    def close(self) -> None:
        """Stop everything."""
        for router in self._routers.values():
            router.stop()
        for server in (*self._servers.values(), *self._ended):
            server.close()


def _text(template: Mapping[str, Any]) -> str:
    return json.dumps(template, sort_keys=True)
