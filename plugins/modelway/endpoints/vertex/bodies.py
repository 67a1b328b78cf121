"""An endpoint and its predictors as resources of Vertex AI; pure functions.

Source: the Vertex AI API v1 (discovery document aiplatform.v1 of 2026-11-06).
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from modelway.endpoints.base import EndpointSpec, Predictor, pipeline_version
from modelway.endpoints.plain import plain_predictor
from modelway.endpoints.released_images import released
from modelway.endpoints.vertex.section import VertexEndpointSection
from modelway.endpoints.whole_percents import whole_percents
from modelway.names import slug

Object = dict[str, Any]

#: labels: no dots or slashes are allowed in them
MANAGED, DEPLOYMENT, ENDPOINT = "managed-by", "modelway-deployment", "modelway-endpoint"
PORT = 8080
_HEALTH = "/v2/health/ready"
_CPU = "aiplatform.googleapis.com/prediction/online/cpu/utilization"
_MOST = 63
#: ids that are no version's number have this many digits
_ID_DIGITS = 10


@dataclass(frozen=True, kw_only=True)
class Desired:
    """An endpoint as it is to be on Vertex AI."""

    spec: EndpointSpec
    own: VertexEndpointSection
    #: projects/P/locations/R
    parent: str
    #: distinguishes this Airflow from another one
    deployment: str

    @property
    def labels(self) -> dict[str, str]:
        """The labels of endpoint and models."""
        return {**self.own.labels, MANAGED: "modelway", DEPLOYMENT: self.deployment, ENDPOINT: self.spec.name}

    @property
    def pool(self) -> str | None:
        """The name of the pool whose machines are shared."""
        return f"{self.parent}/deploymentResourcePools/{self.own.pool}" if self.own.pool else None

    def model_id(self, predictor: Predictor) -> str:
        """Return the id of a predictor's model: another one for another predictor, since models never change."""
        text = json.dumps([_container(self, predictor), _machines(self, predictor)], sort_keys=True)
        end = f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        return slug(f"{self.spec.name}-{predictor.name}", limit=_MOST - len(end)) + end

    def deployed_id(self, predictor: Predictor, taken: Mapping[str, str]) -> str:
        """Return the id of a predictor's deployed model: the version's number, unless another predictor has it.

        :param taken: ids of deployed models to the ids of their models
        """
        model = self.model_id(predictor)
        if (known := next((key for key, value in taken.items() if value == model), None)) is not None:
            return known
        number = str(predictor.version)
        if pipeline_version(predictor.name) is not None and number not in taken and len(number) < _ID_DIGITS:
            return number
        digest = int(hashlib.sha256(f"{predictor.name} {model}".encode()).hexdigest(), 16)
        return str(10 ** (_ID_DIGITS - 1) + digest % (9 * 10 ** (_ID_DIGITS - 1)))

    def upload(self, predictor: Predictor) -> Object:
        """Return the body that uploads a predictor's model."""
        model: Object = {
            "displayName": f"{self.spec.name} {predictor.name}",
            "labels": self.labels,
            "containerSpec": _container(self, predictor),
            **self._encryption(),
        }
        return {"modelId": self.model_id(predictor), "model": model}

    def deploy(self, predictor: Predictor, deployed_id: str) -> Object:
        """Return the body that deploys a predictor's model; the split stays as it is."""
        deployed: Object = {
            "id": deployed_id,
            "displayName": predictor.name,
            "model": f"{self.parent}/models/{self.model_id(predictor)}",
        }
        if self.pool:
            deployed["sharedResources"] = self.pool
        else:
            deployed["dedicatedResources"] = _machines(self, predictor)
        if self.own.service_account:
            deployed["serviceAccount"] = self.own.service_account
        return {"deployedModel": deployed}

    def pool_body(self) -> Object:
        """Return the body that makes the shared pool: machines as the first predictor needs them."""
        pool: Object = {"dedicatedResources": _machines(self, self.spec.predictors[0]), **self._encryption()}
        return {"deploymentResourcePoolId": self.own.pool, "deploymentResourcePool": pool}

    def endpoint(self) -> Object:
        """Return the body that creates the endpoint, which serves nothing yet."""
        return {
            "displayName": self.spec.name,
            "description": recorded(self.spec, served=False),
            "labels": self.labels,
            "dedicatedEndpointEnabled": True,
            "clientConnectionConfig": {"inferenceTimeout": f"{self.own.answer_within_seconds}s"},
            **self._encryption(),
        }

    def split(self, ids: Mapping[str, str]) -> dict[str, int]:
        """Return the split, by the ids of the deployed models; those without a share are left out.

        :param ids: by predictor
        """
        weights = {each.name: each.weight for each in self.spec.predictors}
        percents = whole_percents(weights, where=f"endpoint {self.spec.name}")
        return {ids[name]: percent for name, percent in percents.items() if percent}

    def _encryption(self) -> Object:
        return {"encryptionSpec": {"kmsKeyName": self.own.kms_key}} if self.own.kms_key else {}


def recorded(spec: EndpointSpec, *, served: bool = True, stopped: bool = False) -> str:
    """Return what the endpoint's description records: the spec as applied."""
    predictors = [{**plain_predictor(each), "weight": each.weight} for each in spec.predictors]
    whole = {**asdict(replace(spec, predictors=())), "predictors": predictors}
    return json.dumps({"modelway": 1, "spec": whole, "served": served, "stopped": stopped}, sort_keys=True)


def _machines(desired: Desired, predictor: Predictor) -> Object:
    own, scaling = desired.own, predictor.autoscaling
    machine: Object = {"machineType": own.machine_type}
    if gpus := predictor.resources.get("gpu"):
        machine |= {"acceleratorType": own.accelerator, "acceleratorCount": gpus}
    found: Object = {"machineSpec": machine, "minReplicaCount": predictor.replicas}
    found["maxReplicaCount"] = predictor.replicas
    if scaling is not None:
        found |= {"minReplicaCount": scaling.minimum, "maxReplicaCount": scaling.maximum}
        found["autoscalingMetricSpecs"] = [{"metricName": _CPU, "target": scaling.cpu_percent}]
    return found | ({"spot": True} if own.spot else {})


def _container(desired: Desired, predictor: Predictor) -> Object:
    spec, own = desired.spec, desired.own
    model = ["--model", predictor.model] if predictor.model not in (None, spec.model) else []
    rows, cpu = predictor.batching.get("rows"), predictor.resources.get("cpu")
    threads = ["--threads", str(math.ceil(cpu))] if cpu and cpu > 1 else []
    arguments = [*model, *(["--batch-size", str(rows)] if rows else []), *threads]
    environment = {
        "MODELWAY_MODEL_DIR": predictor.model_path,
        "MODELWAY_MODEL_NAME": spec.model,
        "MODELWAY_MODEL_VERSION": str(predictor.version),
    }
    container: Object = {
        "imageUri": released(predictor.image, own.image_repository),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"containerPort": PORT}],
        "healthRoute": _HEALTH,
        "deploymentTimeout": f"{own.ready_within_seconds}s",
    }
    if arguments:
        container["args"] = arguments
    if own.route == "invoke":
        return container | {"invokeRoutePrefix": "/*"}
    return container | {"predictRoute": f"/v2/models/{spec.model}/infer"}
