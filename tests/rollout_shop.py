"""A model's versions with their images, and the tasks that deploy and promote them; a task that is killed."""

import json
from types import SimpleNamespace

import httpx
import numpy
from modelway.artifacts.archive import write_archive
from modelway.artifacts.store import ArtifactStore
from modelway.endpoints.base import load_endpoint
from modelway.lineage.records.version import RunRecord, VersionRecord
from modelway.lineage.store import open_lineage
from modelway.operators.build_image import BuildImageOperator
from modelway.operators.deploy import DeployModelOperator
from modelway.operators.promote import PromoteModelOperator
from safetensors.numpy import save

from tests.tiny_model import WIDTH, write_model


class Killed(BaseException):
    """The worker dies here."""


class Shop:
    """Runs that each made a version of the model ``tiny``, and what deploys and promotes them."""

    def __init__(self, home):
        self.home = home
        self.lineage = open_lineage(f"sqlite:///{home / 'lineage.db'}")
        self.endpoint = load_endpoint("local", root=home / "endpoints")
        self.versions = {}
        #: runs that have failed, as Airflow knows
        self.failed = set()

    def context(self, number, *, last_attempt=False):
        dag_run = SimpleNamespace(dag_id="tiny", run_id=f"run-{number}", triggering_user_name="mia")
        ti = SimpleNamespace(try_number=3 if last_attempt else 1, max_tries=2, get_dagrun_state=self.state)
        return {"dag_run": dag_run, "ti": ti}

    def state(self, *, dag_id, run_id):
        return "failed" if run_id in self.failed else "running"

    def make(
        self, number, *, wrong=False, scale=None, output="y", model="tiny", sketches=None, sums=False, candidates=()
    ):
        """Register a version whose answer is its number, or ``scale``, and build its image.

        :param sketches: what freezing counted of the rows of its evaluation
        :param candidates: of the sweep that it came from
        :param sums: it answers a row with the sum of its answers
        """
        scale = number if scale is None else scale
        folder = write_model(self.home / f"{model}-{number}", scale=scale, output=output, sums=sums)
        (folder / "golden").mkdir()
        if sketches is not None:
            (folder / "outputs").mkdir(exist_ok=True)
            (folder / "outputs" / "sketches.json").write_text(json.dumps(sketches))
        x = numpy.arange(2 * WIDTH, dtype="float32").reshape(2, WIDTH)
        (folder / "golden" / "inputs.safetensors").write_bytes(save({"2/x": x}))
        y = x * numpy.float32(scale)
        y = y.sum(axis=1, keepdims=True) if sums else y
        (folder / "golden" / "outputs.safetensors").write_bytes(save({f"2/{output}": y + (0.5 if wrong else 0)}))
        manifest = write_archive(folder=folder, documents={}, to=self.home / f"{model}-{number}.zip")
        archive = ArtifactStore((self.home / "artifacts").as_uri()).put(
            self.home / f"{model}-{number}.zip", model=model
        )
        record = VersionRecord(
            model=model,
            run=RunRecord(dag_id=model, run_id=f"run-{number}", candidates=candidates),
            archive_uri=archive.uri,
            archive_digest=archive.digest,
            archive_size=archive.size,
            model_digest=manifest.model_digest,
            checkpoint="train-1",
            checkpoint_digest=archive.digest,
        )
        assert self.lineage.register(record) == number
        version = {
            "model": model,
            "version": number,
            "archive": archive.to_dict(),
            "model_digest": manifest.model_digest,
        }
        image = BuildImageOperator(task_id="build", version=version).run(self.context(number))
        if model == "tiny":
            self.versions[number] = (version, image)

    def deploy(self, number, *, run=None, allow=False, serving=None, **decided):
        version, image = self.versions[number]
        operator = DeployModelOperator(
            task_id="deploy",
            version={**version, **decided},
            image=image,
            serving=serving,
            allow_signature_change=allow,
        )
        return operator.run(self.context(run or number))

    def take_back(self, number, *, run, **decided):
        """Roll out a version that another run made."""
        deployment = self.deploy(number, run=run, **decided)
        version = {**self.versions[number][0], **decided}
        operator = PromoteModelOperator(
            task_id="promote",
            version=version,
            deployment=deployment,
            steps=(50, 100),
            interval_seconds=0,
            minimum_requests=0,
        )
        return operator.run(self.context(run))

    def promoter(self, number, deployment, *, steps=(10, 50, 100), interval=0, requests=0, **options):
        return PromoteModelOperator(
            task_id="promote",
            version=self.versions[number][0],
            deployment=deployment,
            steps=steps,
            interval_seconds=interval,
            minimum_requests=requests,
            **options,
        )

    def promote(self, number, deployment, *, last_attempt=False, **options):
        return self.promoter(number, deployment, **options).run(self.context(number, last_attempt=last_attempt))

    def roll_out(self, number):
        return self.promote(number, self.deploy(number))

    @property
    def weights(self):
        status = self.endpoint.status("tiny")
        return {predictor.version: predictor.weight for predictor in status.predictors} if status else None

    @property
    def champion(self):
        return self.lineage.aliases("tiny").get("champion")

    def rollout(self, number):
        return self.lineage.rollout("tiny", f"tiny/run-{number}")

    def answering(self):
        """Return which version answers, by what it answers."""
        url = self.endpoint.status("tiny").url
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": [1.0] * WIDTH}]}
        return httpx.post(f"{url}/v2/models/tiny/infer", json=body).json()["outputs"][0]["data"][0]


def die_at_wait(monkeypatch, number):
    """Kill the worker in the wait after the given step (from 1)."""
    waits = []

    def wait(self, rollout):
        waits.append(rollout.record.step)
        if len(waits) == number:
            raise Killed

    monkeypatch.setattr(PromoteModelOperator, "_wait", wait)
