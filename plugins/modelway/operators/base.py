"""What all operators share: their settings, the checks of their arguments, and how an error fails the task."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, Self

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.errors import ModelwayError, disk_full
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.settings import Settings
from modelway.operators._account import record_failure, record_success
from modelway.operators._checks import Checks
from modelway.operators._partial import CheckedPartial
from modelway.operators.arguments import check_arguments, check_final, check_partial, refuse_unknown
from modelway.spec.problems import Refusal


class ModelwayOperator(BaseOperator):
    """An operator whose work is in ``run``; a terminal error of ours fails the task without further tries."""

    #: what each argument must be; ``__init__`` ends with ``check_arguments``
    accepts: ClassVar[Checks] = {}

    def __new__(cls, **kwargs: Any) -> Self:
        """Refuse arguments that the operator does not have, with the nearest one that it has.

        Not in ``__init__``: Airflow wraps each one of a class in work that costs as much as its own.
        """
        # A mapped task is made with a word of Airflow's own.
        refuse_unknown(cls, {name: value for name, value in kwargs.items() if not name.startswith("_airflow_")})
        return super().__new__(cls)

    @cached_property
    def settings(self) -> Settings:
        """The deployment's settings, asked of Airflow once per task.

        :raises ModelwayError: a connection describes nothing usable, or Airflow cannot be asked for it
        """
        return settings_from_airflow()

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """The deployment's artifact store."""
        return ArtifactStore(self.settings.artifact_root)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check what all mapped tasks share, as far as it is known; ``expand`` checks what they are mapped over.

        :raises InvalidArgument: an argument cannot be right
        """
        refuse_unknown(cls, kwargs)
        check_partial(cls, kwargs)
        return CheckedPartial.of(super().partial(**kwargs))

    @classmethod
    def mapped_conflicts(cls, shared: Mapping[str, Any], dag: Any) -> Iterable[tuple[str, Refusal]]:
        """Return which arguments that all mapped tasks share cannot be right in this DAG."""
        return ()

    def conflicts(self) -> Iterable[tuple[str, Refusal]]:
        """Return which arguments cannot be right together, or in this DAG, as far as it is known while it is parsed."""
        return ()

    def check_arguments(self) -> None:
        """Check what is known of the arguments while the DAG is parsed.

        :raises InvalidArgument: an argument cannot be right
        """
        check_arguments(self)

    def execute(self, context: Context) -> Any:
        """Run the operator."""
        with failures_told(self, context):
            return self.run(context)

    @abstractmethod
    def run(self, context: Context) -> Any:
        """Do the work and return what goes to XCom: ids, URIs, digests and a few numbers."""


@contextmanager
def failures_told(operator: BaseOperator, context: Context) -> Iterator[None]:
    """Log an error of ours in plain words, leave it as XCom ``failure``, and fail the task the way the error asks.

    How the try ended goes into the lineage.
    """
    try:
        with _disk_full_told():
            check_final(operator)
            yield
    except ModelwayError as error:
        context["ti"].xcom_push(key="failure", value=str(error))
        operator.log.error("%s", error)
        if not getattr(operator, "was_marked", False):
            record_failure(operator, context, error)
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from None
    except AirflowException:
        # Airflow's own words between a task and its runner, such as that it is skipped.
        raise
    except Exception as error:
        record_failure(operator, context, error)
        raise
    else:
        record_success(operator, context)


@contextmanager
def _disk_full_told() -> Iterator[None]:
    """Raise whatever a full device made fail as that."""
    try:
        yield
    except Exception as error:
        if isinstance(error, AirflowException) or (full := disk_full(error)) is None:
            raise
        raise full from error


def code_of(code: Mapping[str, Any]) -> Artifact:
    """Return the code package that PackageCodeOperator gave."""
    return Artifact.from_dict(code)


def plan_of(code: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what PlanRunOperator decided; nothing in a DAG without one."""
    plan: Mapping[str, Any] = code.get("plan") or {}
    return plan


def refuse_held(version: Mapping[str, Any]) -> None:
    """Skip the task when the run may move no traffic; the reason goes into the task's log.

    :raises AirflowSkipException: it may not
    """
    if version.get("held"):
        raise AirflowSkipException(version["held"])
