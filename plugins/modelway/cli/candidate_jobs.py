"""The jobs of a sweep's candidates, by one candidate: those of the others differ in their names alone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelway.runs.candidates import candidate_params, params_text
from modelway.runs.mapped import map_item
from modelway.spec.search import ETA

if TYPE_CHECKING:
    from modelway.spec.model import Evaluation, ModelSpec, Stage
    from modelway.spec.search import SearchSection

    #: a task's name for people, the key of its job, what the job does, and how it is configured
    Task = tuple[str, str, str, Stage | Evaluation]

#: how many candidates are listed
_LISTED = 10


def candidate_lines(spec: "ModelSpec", search: "SearchSection") -> list[str]:
    """Return comments that list the candidates of the spec's seed."""
    drawn = candidate_params(search, seed=spec.train.seed)
    lines = [f"# the {len(drawn)} candidates of the seed {spec.train.seed}; of each stage one of their jobs is shown"]
    lines += [f"#   {name}: {params_text(params)}" for name, params in list(drawn.items())[:_LISTED]]
    return lines + ([f"#   and {len(drawn) - _LISTED} more"] if len(drawn) > _LISTED else [])


def candidate_tasks(spec: "ModelSpec", search: "SearchSection") -> "Iterator[Task]":
    """Yield the training of the first candidate by stage, and the evaluations of its checkpoints."""
    drawn = candidate_params(search, seed=spec.train.seed)
    name, entered, stages = next(iter(drawn)), len(drawn), spec.stages()
    halves = search.method == "halving"
    for stage in stages:
        checkpoint, of = f"{name}-{stage.name}-000001", f"candidate {name} of"
        if stage is stages[0]:
            key, which = first_key(spec, name, drawn[name]), f"{of} {entered}"
        else:
            most = f"at most {entered}" if halves else str(entered)
            key, which = f"train.{stage.name}/{name}", f"{of} {most}, named by its checkpoint as well"
        yield f"{stage.name}, {which}", key, "train", stage
        if not halves or stage is stages[-1]:
            continue
        entered = max(1, entered // (search.eta or ETA))
        yield f"evaluate {checkpoint}", f"train.evaluate_{stage.name}/{checkpoint}", "evaluate", spec.evaluation()
    yield f"evaluate {checkpoint}", f"evaluate.checkpoint/{checkpoint}", "evaluate", spec.evaluation()


def first_key(spec: "ModelSpec", name: str, params: dict[str, object]) -> str:
    """Return the key of a candidate's job of the first stage, see TrainModelOperator."""
    stage = spec.stages()[0]
    # The seed is a field of the run's form, which a template gives as text.
    own = {"params": {**stage.params, **params}, "seed": str(spec.train.seed)}
    return f"train.{stage.name}/{map_item(name, **own, command=stage.command, start_from=[])}"
