"""Models whose DAG Airflow refuses although their spec is valid: an import error beside the other DAGs."""

from collections.abc import Mapping

from airflow.sdk import DAG

from modelway.errors import InvalidSpec

#: the name of the placeholder; no model's name has a capital
REFUSED = "Refused"


class RefusedModels(DAG):
    """A placeholder that Airflow refuses when it checks the DAGs of a file, so that the file's other DAGs stay."""

    reasons: Mapping[str, Exception]

    def validate(self) -> None:
        """Raise the reasons.

        :raises InvalidSpec: always
        """
        reasons = "; ".join(f"{model}: {type(error).__name__}: {error}" for model, error in self.reasons.items())
        raise InvalidSpec(
            f"{len(self.reasons)} models have no DAG: {reasons}"
            if len(self.reasons) > 1
            else f"the model {reasons}, so it has no DAG",
            do="Change the spec as it says; the log of the DAG processor has the whole traceback",
        )


def refused_models(reasons: Mapping[str, Exception]) -> DAG:
    """Return the placeholder for models, with the error of each."""
    stand_in = RefusedModels(dag_id=REFUSED, schedule=None)
    stand_in.reasons = reasons
    return stand_in
