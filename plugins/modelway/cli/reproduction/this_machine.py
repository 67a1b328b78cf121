"""What this machine can provide of a recorded run, and how it differs from where the run was."""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from modelway.errors import CapabilityMissing
from modelway.ports import known

if TYPE_CHECKING:
    from modelway.lineage.records.difference import DiffRecord
    from modelway.lineage.records.version import VersionDetail

#: as many processes as the key processes_per_node allows
_MOST_PROCESSES = 64
_ELSEWHERE = ("endpoint", "image", "monitor", "notifications", "storage")


def here(spec: dict[str, Any], *, skipped: Collection[str] = ()) -> tuple[str, ...]:
    """Change a recorded model spec so that everything is on this machine, and nobody is notified.

    Processes on many nodes become as many on this one.

    :param skipped: the stages that the run left out

    Returns a line for each thing that the run had and will not have.

    :raises CapabilityMissing: it had what this machine does not have, such as GPUs
    """
    lacking = list(_variables(spec))
    train, evaluate = spec["train"], spec["evaluate"]
    for stage in train["stages"]:
        stage["resources"] = stage.get("resources") or train.get("resources")
        nodes, processes = (stage.get(key) or train.get(key) or 1 for key in ("nodes", "processes_per_node"))
        what = f"stage '{stage['name']}'"
        if stage["name"] in skipped:
            stage |= {"nodes": 1, "processes_per_node": 1, "resources": None}
            continue
        if nodes * processes > _MOST_PROCESSES:
            raise CapabilityMissing(
                f"{what} had {nodes * processes} processes on {nodes} nodes, a machine has at most {_MOST_PROCESSES}",
                do="Run it again by its DAG",
            )
        stage |= {"nodes": 1, "processes_per_node": nodes * processes}
        stage["resources"] = _given(stage["resources"], what=what, nodes=nodes, lacking=lacking)
    evaluate["resources"] = _given(evaluate.get("resources"), what="an evaluation", nodes=1, lacking=lacking)
    # What only its schedule could set, such as an interval, is passed to the run as it was recorded.
    spec |= {"schedule": None, "reuse": "never", "deadline": None, "pool": None, "retry_rules": {}}
    train |= {"backend": "local", "image": None, "base": None, "resources": {}, "nodes": 1, "processes_per_node": 1}
    evaluate |= {"backend": None, "image": None}
    for name in (*_ELSEWHERE, *known("backends")):
        spec.pop(name, None)
    return tuple(lacking)


def _given(resources: Mapping[str, Any] | None, *, what: str, nodes: int, lacking: list[str]) -> dict[str, Any]:
    """Return the resources that a job gets here.

    :raises CapabilityMissing: there are fewer GPUs
    """
    from modelway.platforms.processes.machine import core_count, gpu_count

    gpus, cores = (nodes * ((resources or {}).get(key) or 0) for key in ("gpu", "cpu"))
    if gpus > gpu_count():
        raise CapabilityMissing(
            f"{what} had {gpus} GPU{'' if gpus == 1 else 's'}, this machine has {gpu_count() or 'none'}",
            do="Run it again on a machine that has them",
        )
    if cores > core_count():
        lacking.append(f"{what} had {cores:g} CPU cores, this machine has {core_count()}")
    # Other limits do not change what comes out; that of cores is how many threads compute.
    return {"gpu": gpus, "cpu": min(cores, core_count()) if cores else None}


def _variables(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield which environment variables the run's containers had, by their names: a value may be secret."""
    backend = str(spec["train"].get("backend"))
    if names := sorted((spec.get(backend) or {}).get("env") or ()):
        yield f"the run had the environment variables of {backend}.env: {', '.join(names)}; set here are your own"


def places(recorded: "VersionDetail", again: "VersionDetail", found: "DiffRecord") -> tuple[str, ...]:
    """Return how the place where a version was made differs from this one, a line each, by the records of both."""
    lines = []
    stages = [stage for stage in recorded.run.stages if not stage.skipped]
    if backends := sorted({stage.backend for stage in stages if stage.backend and stage.backend != "local"}):
        lines.append(f"its jobs ran with the backend {' and '.join(backends)}, here with local")
    changes = [change for each in found.environment for change in each.changes]
    for what, with_ in (("image", "in the image"), ("platform", "on"), ("python", "with Python")):
        for sides in dict.fromkeys((change.a, change.b) for change in changes if change.name == what):
            then, now = ("none" if side == "-" else side for side in sides)
            lines.append(f"it ran {with_} {then}, here {with_.removesuffix(' the image')} {now}")
    packages = {change.name for each in found.environment for change in each.packages}
    if packages:
        number = f"{len(packages)} packages are not the recorded ones"
        lines.append(f"{'1 package is not the recorded one' if len(packages) == 1 else number}, see below")
    named = {stage.name for stage in again.run.stages if stage.environment}
    if unknown := [stage.name for stage in stages if stage.name in named and stage.environment is None]:
        lines.append(f"the record does not say in which environment {', '.join(unknown)} ran")
    return tuple(lines)
