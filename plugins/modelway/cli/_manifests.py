"""The jobs of a model as a backend would send them, without sending them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from modelway.backends.base import Backend, Job, Options
from modelway.errors import ModelwayError, SubmitFailed
from modelway.ports import load

if TYPE_CHECKING:
    from modelway.cli.output.candidate_jobs import Task
    from modelway.spec.model import ModelSpec

KUBERNETES = "kubernetes"
#: the backends whose requests can be printed, to what they are called
BACKENDS = {KUBERNETES: "Kubernetes", "vertex": "Vertex AI"}
#: the version that is assumed where no server answers
COMMON_VERSION = (1, 30)
#: placeholders for a run's id and a checkpoint's, which only a run has
RUN, CHECKPOINT = "manual__example", "train-000001"


class _Printable(Protocol):
    """A request that can be printed as the objects that would be created."""

    def manifests(self) -> list[dict[str, Any]]:
        """Return them, the one that owns the others first."""


class _Cluster(Backend, Protocol):
    """A backend whose server has a version."""

    version: tuple[int, int]


class InvalidVersion(ModelwayError):
    """A text that is not a server's version."""


def read_version(text: str) -> tuple[int, int]:
    """Return the version that a text such as ``1.30`` names.

    :raises InvalidVersion: it is not a version
    """
    major, _, minor = text.removeprefix("v").partition(".")
    if not (major.isdigit() and minor.partition(".")[0].isdigit()):
        raise InvalidVersion(f"'{text}' is not a version of Kubernetes", do="Write it as in --server 1.30")
    return int(major), int(minor.partition(".")[0])


def manifests_text(spec: "ModelSpec", *, backend: str, run: str | None, server: str | None) -> str:
    """Return the objects of all jobs of a model's run on a backend, as YAML documents.

    :param backend: one of ``BACKENDS``
    :param run: the run's id, which gives the jobs their names
    :param server: the version of Kubernetes' server; None: that of the cluster
    :raises CapabilityMissing: the spec requires what the backend cannot provide
    """
    from modelway.cli.output.candidate_jobs import candidate_lines
    from modelway.spec.document.write import write_document

    opened, version = _opened(backend, server)
    lines = [f"# for {BACKENDS[backend]}{version}"]
    if run is None:
        lines.append(f"# the run's id is {RUN}: it is part of the names; --run sets another")
    if spec.search is not None:
        lines += candidate_lines(spec, spec.search)
    for stage, request in _requests(spec, f"{spec.model}/{run or RUN}", backend, opened):
        lines.append(f"# {stage}")
        lines += [f"---\n{write_document(manifest).rstrip()}" for manifest in request.manifests()]
    return "\n".join(lines) + "\n"


def _opened(name: str, server: str | None) -> tuple[Backend, str]:
    """Return the backend, and its version as a text; it sends nothing."""
    if name != KUBERNETES:
        if server is not None:
            raise InvalidVersion(f"{BACKENDS[name]} has no version", do="Remove --server")
        return _open(name), ""
    version, source = _version(server)
    return _open(name, version=version), f" {version[0]}.{version[1]}{source}"


def _version(server: str | None) -> tuple[tuple[int, int], str]:
    if server is not None:
        return read_version(server), ""
    try:
        return cast(_Cluster, _open(KUBERNETES)).version, ", which answers"
    except SubmitFailed:
        return COMMON_VERSION, ": no cluster answers; --server takes another version"


def _requests(spec: "ModelSpec", run: str, name: str, backend: Backend) -> Iterator[tuple[str, _Printable]]:
    from modelway.cli.output.candidate_jobs import candidate_tasks
    from modelway.spec.options import options_of

    training = _stage_tasks(spec) if spec.search is None else candidate_tasks(spec, spec.search)
    for title, key, action, stage in (*training, *_other_tasks(spec)):
        options = Options(**options_of(spec, dataclasses.replace(stage, backend=name)))
        seed = 0 if action in ("verify", "image") else spec.train.seed
        job = Job(model=spec.model, run=run, key=key, stage=title, action=action, seed=seed)
        yield title, cast(_Printable, backend.build_request(job, options))


def _open(name: str, **settings: Any) -> Backend:
    return cast(Backend, load("backends", name).open(home=Path(), **settings))


def _stage_tasks(spec: "ModelSpec") -> "Iterator[Task]":
    for stage in spec.stages():
        yield stage.name, f"train.{stage.name}", "train", stage
    yield f"evaluate {CHECKPOINT}", f"evaluate.checkpoint/{CHECKPOINT}", "evaluate", spec.evaluation()


def _other_tasks(spec: "ModelSpec") -> "Iterator[Task]":
    evaluation = spec.evaluation()
    for name in ("freeze", "verify"):
        yield name, f"freeze.{name}", name, evaluation
    if spec.image.repository and "job" in load("builders", spec.image.builder).capabilities:
        yield "image", "serve.build_image", "image", spec.imaging()
