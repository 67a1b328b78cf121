"""Vertex AI's training pipelines over gRPC with TLS, in front of the fake of its custom jobs: for provider.py.

``python bench/jobs/pipelines.py FAKE CERTIFICATE KEY ADDRESS`` runs in the environment that has Google's own messages.
A training pipeline is a custom job of the fake whose base is FAKE, as it is one on Vertex AI: creating it creates the
job, and its state is the job's. At each line of its standard input it prints how often each method was called.
"""

import json
import sys
import threading
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.cloud import aiplatform_v1 as ai

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_STATES = {"QUEUED": "QUEUED", "PENDING": "PENDING"} | dict.fromkeys(("RUNNING", "SUCCEEDED", "FAILED"), "")


class Pipelines:
    """The service; every call is counted."""

    def __init__(self, fake: str) -> None:
        """:param fake: the base of the custom jobs' API, such as ``http://127.0.0.1:8080/aiplatform/v1``"""
        self._fake = fake
        self._made: dict[str, ai.TrainingPipeline] = {}
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    def create(self, request: Any, context: grpc.ServicerContext) -> ai.TrainingPipeline:
        """CreateTrainingPipeline."""
        made = ai.TrainingPipeline(request.training_pipeline)
        (pool,) = ai.TrainingPipeline.to_dict(made)["training_task_inputs"]["worker_pool_specs"]
        body = {
            "displayName": made.display_name,
            "jobSpec": {
                "workerPoolSpecs": [
                    {
                        "replicaCount": "1",
                        "machineSpec": {"machineType": pool["machine_spec"]["machine_type"]},
                        "containerSpec": {"imageUri": pool["containerSpec"]["imageUri"]},
                    }
                ]
            },
        }
        job = self._call("POST", f"{request.parent}/customJobs", body)
        made.name = f"{request.parent}/trainingPipelines/{job['name'].rpartition('/')[2]}"
        with self._lock:
            self.calls["CreateTrainingPipeline"] += 1
            self._made[made.name] = made
        return self._seen(made)

    def get(self, request: Any, context: grpc.ServicerContext) -> ai.TrainingPipeline:
        """GetTrainingPipeline."""
        with self._lock:
            self.calls["GetTrainingPipeline"] += 1
            made = self._made.get(request.name)
        if made is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"{request.name} is not found.")
        return self._seen(made)

    def _seen(self, made: ai.TrainingPipeline) -> ai.TrainingPipeline:
        parent, _, number = made.name.partition("/trainingPipelines/")
        state = self._call("GET", f"{parent}/customJobs/{number}")["state"].removeprefix("JOB_STATE_")
        made.state = ai.PipelineState[f"PIPELINE_STATE_{_STATES[state] or state}"]
        return made

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._fake}/{path}", content, method=method)
        with _DIRECT.open(request, timeout=60) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]


def main(fake: str, certificate: Path, key: Path, address: str) -> None:
    """Serve until the standard input ends."""
    service = Pipelines(fake)
    server = grpc.server(ThreadPoolExecutor(16))
    methods = {
        "CreateTrainingPipeline": grpc.unary_unary_rpc_method_handler(
            service.create, ai.CreateTrainingPipelineRequest.deserialize, ai.TrainingPipeline.serialize
        ),
        "GetTrainingPipeline": grpc.unary_unary_rpc_method_handler(
            service.get, ai.GetTrainingPipelineRequest.deserialize, ai.TrainingPipeline.serialize
        ),
    }
    name = "google.cloud.aiplatform.v1.PipelineService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    server.add_secure_port(address, credentials)
    server.start()
    print("ready", flush=True)
    while sys.stdin.readline():
        print(json.dumps(service.calls), flush=True)
    server.stop(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
