"""Draw the candidates of a sweep."""

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator
from modelway.runs.candidates import candidate_params, params_text
from modelway.runs.messages.candidates import Candidate
from modelway.runs.messages.checkpoints import to_xcom
from modelway.runs.messages.message import Xcom
from modelway.spec.search import SearchSection


class DrawCandidatesOperator(ModelwayOperator):
    """Draw the candidates of a sweep: the parameters with which each of several trainings runs.

    The same seed gives the same candidates. See docs/sweeps.md.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param search: the section ``search`` of a model spec as plain data
    :param seed: decides what is drawn

    Returns ``[{id, params, place}]``; expand a TrainModelOperator over it.
    """

    template_fields: Sequence[str] = ("code", "search", "seed")
    accepts: ClassVar[Checks] = {"code": checks.CODE, "search": checks.SEARCH, "seed": checks.SEED}

    def __init__(self, *, code: Any, search: Any, seed: Any = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.search = search
        self.seed = seed
        self.check_arguments()

    def run(self, context: Context) -> list[Xcom]:
        """Draw them."""
        drawn = candidate_params(SearchSection.model_validate(self.search), seed=int(self.seed))
        for name, params in drawn.items():
            self.log.info("%s: %s", name, params_text(params))
        return to_xcom(
            Candidate(id=name, params=params, place=place) for place, (name, params) in enumerate(drawn.items())
        )
