"""Operators whose arguments depend on the environment that the run serves in."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from modelway.errors import InvalidSpec
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator


class EnvironmentOperator(ModelwayOperator):
    """An operator with other arguments in each environment: the run says which one."""

    template_fields: Sequence[str] = ("environment", "environments")
    accepts: ClassVar[Checks] = {"environment": checks.ENVIRONMENT, "environments": checks.ENVIRONMENTS}

    def __init__(
        self,
        *,
        environment: str | None = None,
        environments: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Serve in ``environment``, whose arguments in ``environments`` replace those of the operator."""
        super().__init__(**kwargs)
        self.environment = environment
        self.environments = environments

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Fill in the templates, and then the arguments of the run's environment.

        :raises AirflowFailException: there is no such environment
        """
        super().render_template_fields(context, jinja_env)
        known = self.environments or {}
        # A parameter that is not set is the text None.
        name = None if self.environment in (None, "", "None") else str(self.environment)
        if name is None:
            return
        if name not in known:
            refusal = InvalidSpec(f"'{name}' is not an environment of {self.task_id}", known=known, given=name)
            raise AirflowFailException(str(refusal))
        for argument, value in known[name].items():
            setattr(self, argument, value)
