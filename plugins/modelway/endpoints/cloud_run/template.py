"""A predictor as a revision of a Cloud Run service, and an endpoint as the service; pure functions.

Source: Cloud Run's API v2 (discovery document run.v2 of 2026-10-31).
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelway.endpoints.base import EndpointSpec, Predictor, Sticky
from modelway.endpoints.cloud_run.rules import limits
from modelway.endpoints.cloud_run.section import CloudRunSection
from modelway.endpoints.plain import plain_predictor
from modelway.endpoints.released_images import released
from modelway.endpoints.whole_percents import whole_percents
from modelway.names import slug

Object = dict[str, Any]

#: labels: no dots or slashes are allowed in them
MANAGED, DEPLOYMENT = "managed-by", "modelway-deployment"
#: annotations: what was applied, as JSON
ENDPOINT, PREDICTOR, DIGEST = (f"modelway.dev/{word}" for word in ("endpoint", "predictor", "digest"))
PORT = 8080
_BY_REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
_INGRESS = {
    "all": "INGRESS_TRAFFIC_ALL",
    "internal": "INGRESS_TRAFFIC_INTERNAL_ONLY",
    "internal_and_load_balancer": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
}
#: of a revision's name
_MOST = 63
#: seconds between two checks of a container that starts; its time is over with the section's ready_within
_PERIOD = 5
#: what a check may wait for at most, by the API
_LONGEST_START = 240


@dataclass(frozen=True, kw_only=True)
class Desired:
    """An endpoint as it is to be on Cloud Run."""

    spec: EndpointSpec
    own: CloudRunSection
    #: distinguishes this Airflow from another one
    deployment: str

    @property
    def labels(self) -> dict[str, str]:
        """The labels of service and revisions."""
        return {**self.own.labels, MANAGED: "modelway", DEPLOYMENT: self.deployment}

    def name_of(self, predictor: Predictor, attempt: int = 1) -> str:
        """Return the name of a predictor's revision: another one for another template, and for each attempt.

        A revision never changes, so that one that failed stays as it is.
        """
        end = f"-{self.digest_of(predictor)[:8]}" + (f"-{attempt}" if attempt > 1 else "")
        return slug(f"{self.spec.name}-{predictor.name}", limit=_MOST - len(end)) + end

    def digest_of(self, predictor: Predictor) -> str:
        """Return the digest of a predictor's template, whatever its revision is called."""
        return hashlib.sha256(json.dumps(_template(self, predictor), sort_keys=True).encode()).hexdigest()

    def tag_of(self, predictor: Predictor) -> str:
        """Return the tag by which the predictor alone is reached; with the service's name it is one DNS label."""
        return tag_of(self.spec.name, predictor.name)

    def template(self, predictor: Predictor, revision: str) -> Object:
        """Return the template of a revision."""
        return {"revision": revision, **_template(self, predictor)}

    def traffic(self, revisions: Mapping[str, str]) -> list[Object]:
        """Return the split, each predictor with a tag, also without traffic.

        :param revisions: by predictor
        """
        weights = {each.name: each.weight for each in self.spec.predictors}
        percents = whole_percents(weights, where=f"endpoint {self.spec.name}")
        return [
            target(revisions[each.name], percents[each.name], tag=self.tag_of(each)) for each in self.spec.predictors
        ]

    def service(self) -> Object:
        """Return what a service has besides its template and its split."""
        return {
            "annotations": {ENDPOINT: json.dumps(self._recorded(), sort_keys=True)},
            "ingress": _INGRESS[self.own.ingress],
            "invokerIamDisabled": self.own.public,
            "labels": self.labels,
            "scaling": {"scalingMode": "AUTOMATIC"},
        }

    def _recorded(self) -> Object:
        spec = self.spec
        found: Object = {"name": spec.name, "model": spec.model, "stable": spec.stable, "platform": {**spec.platform}}
        return found if spec.sticky == Sticky() else found | {"sticky": {"header": spec.sticky.header}}


def tag_of(service: str, predictor: str) -> str:
    """Return the tag by which a predictor alone is reached."""
    return slug(predictor, limit=_MOST - len("---") - len(service))


def target(revision: str, percent: int, *, tag: str | None) -> Object:
    """Return one target of a split."""
    return {"type": _BY_REVISION, "revision": revision, "percent": percent} | ({"tag": tag} if tag else {})


def _template(desired: Desired, predictor: Predictor) -> Object:
    own = desired.own
    recorded = json.dumps(plain_predictor(replace(predictor, weight=0)), sort_keys=True)
    template: Object = {
        "annotations": {PREDICTOR: recorded},
        "containers": [_container(desired, predictor)],
        "encryptionKey": own.kms_key,
        "labels": desired.labels,
        "maxInstanceRequestConcurrency": own.concurrency,
        "scaling": _scaling(own, predictor),
        "serviceAccount": own.service_account,
        "timeout": f"{own.answer_within_seconds}s",
        "vpcAccess": _network(own),
    }
    if predictor.resources.get("gpu"):
        template["nodeSelector"] = {"accelerator": own.accelerator}
        template["gpuZonalRedundancyDisabled"] = not own.zonal_redundancy
    return {key: value for key, value in template.items() if value is not None}


def _network(own: CloudRunSection) -> Object | None:
    if own.network is None:
        return None
    interface = {"network": own.network} | ({"subnetwork": own.subnet} if own.subnet else {})
    return {"networkInterfaces": [interface], "egress": "PRIVATE_RANGES_ONLY"}


def _scaling(own: CloudRunSection, predictor: Predictor) -> Object:
    scaling = predictor.autoscaling
    if scaling is None:
        return {"minInstanceCount": own.min_instances, "maxInstanceCount": own.max_instances}
    return {"minInstanceCount": scaling.minimum, "maxInstanceCount": scaling.maximum}


def _container(desired: Desired, predictor: Predictor) -> Object:
    found = limits(predictor.resources)
    container: Object = {
        "args": _arguments(desired.spec, predictor),
        "env": [{"name": name, "value": value} for name, value in _environment(desired.spec, predictor).items()],
        "image": released(predictor.image, desired.own.image_repository),
        "livenessProbe": {
            "failureThreshold": 6,
            "httpGet": {"path": "/v2/health/live", "port": PORT},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        "ports": [{"containerPort": PORT}],
        "startupProbe": {
            "failureThreshold": max(1, min(desired.own.ready_within_seconds, _LONGEST_START) // _PERIOD),
            "httpGet": {"path": "/v2/health/ready", "port": PORT},
            "periodSeconds": _PERIOD,
            "timeoutSeconds": _PERIOD - 1,
        },
    }
    if found:
        # Without it CPU is paid for between requests, too, once there are limits; a GPU demands that.
        container["resources"] = {
            "limits": found,
            "cpuIdle": not (desired.own.cpu_always or predictor.resources.get("gpu")),
            "startupCpuBoost": True,
        }
    elif desired.own.cpu_always:
        container["resources"] = {"cpuIdle": False}
    return {key: value for key, value in container.items() if value != []}


def _arguments(spec: EndpointSpec, predictor: Predictor) -> list[str]:
    model = ["--model", predictor.model] if predictor.model not in (None, spec.model) else []
    rows, cpu = predictor.batching.get("rows"), predictor.resources.get("cpu")
    threads = ["--threads", str(math.ceil(cpu))] if cpu and cpu > 1 else []
    return [*model, *(["--batch-size", str(rows)] if rows else []), *threads]


def _environment(spec: EndpointSpec, predictor: Predictor) -> dict[str, str]:
    # PORT and K_SERVICE are Cloud Run's own.
    return {
        "MODELWAY_HOST": "0.0.0.0",
        "MODELWAY_MODEL_DIR": predictor.model_path,
        "MODELWAY_MODEL_NAME": spec.model,
        "MODELWAY_MODEL_VERSION": str(predictor.version),
    }
