"""Models of which Airflow takes no DAG, though their specs are right: an import error beside the other DAGs."""

from collections.abc import Mapping

from airflow.sdk import DAG

from modelway.errors import InvalidSpec

#: the name of the stand-in; no model's name has a capital
REFUSED = "Refused"


class RefusedModels(DAG):
    """A stand-in that Airflow refuses when it checks the DAGs of a file, so that the file's other DAGs stay."""

    reasons: Mapping[str, Exception]

    def validate(self) -> None:
        """Say why.

        :raises InvalidSpec: always
        """
        told = "; ".join(f"{model}: {type(error).__name__}: {error}" for model, error in self.reasons.items())
        raise InvalidSpec(
            f"{len(self.reasons)} models have no DAG: {told}"
            if len(self.reasons) > 1
            else f"the model {told}, so it has no DAG",
            do="Change the spec as it says; the log of the DAG processor has the whole traceback",
        )


def refused_models(reasons: Mapping[str, Exception]) -> DAG:
    """Return the stand-in of models by the error that each was refused with."""
    stand_in = RefusedModels(dag_id=REFUSED, schedule=None)
    stand_in.reasons = reasons
    return stand_in
