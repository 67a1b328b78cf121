"""What all operators share: their settings, the checks of their arguments, and how an error fails the task."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, Self

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from modelway.artifacts.store import ArtifactStore
from modelway.errors import ModelwayError, disk_full
from modelway.fields.refusal import Refusal
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.settings import Settings
from modelway.operators._account import record_failure, record_success
from modelway.operators._checks import Checks
from modelway.operators._partial import CheckedPartial
from modelway.operators.arguments import check_arguments, check_final, check_partial, refuse_unknown
from modelway.runs.messages.version import RegisteredVersion

_CONVERTER = "_convert_"
#: the attributes whose values Airflow converts
_CONVERTED = frozenset(name.removeprefix(_CONVERTER) for name in dir(BaseOperator) if name.startswith(_CONVERTER))
#: where Airflow stores a task's arguments: set before its ``__init__``, filled after it
_ARGUMENTS = "_BaseOperator__init_kwargs"


class ModelwayOperator(BaseOperator):
    """An operator whose work is in ``run``; a terminal modelway error fails the task without further attempts."""

    #: the check of each argument; ``__init__`` ends with ``check_arguments``
    accepts: ClassVar[Checks] = {}

    def __new__(cls, **kwargs: Any) -> Self:
        """Refuse unknown arguments, with a suggestion of the nearest known one.

        Not in ``__init__``: Airflow wraps the ``__init__`` of every class, which would double its cost.
        """
        # None where one is unpickled or copied.
        if kwargs:
            refuse_unknown(cls, kwargs)
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Airflow's ``__init__`` sets about 70, and looks for a converter of each by its name.

        While there are no arguments yet, Airflow's own ``__setattr__`` does nothing else.
        """
        if self.__dict__.get(_ARGUMENTS) == {} and name not in _CONVERTED:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @cached_property
    def settings(self) -> Settings:
        """The deployment's settings, read from Airflow once per task.

        :raises ModelwayError: a connection is not usable, or Airflow does not answer
        """
        return settings_from_airflow()

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """The deployment's artifact store."""
        return ArtifactStore(self.settings.artifact_root)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check the arguments that all mapped tasks share, as far as they are known; ``expand`` checks the mapped ones.

        :raises InvalidArgument: an argument cannot be right
        """
        refuse_unknown(cls, kwargs)
        check_partial(cls, kwargs)
        return CheckedPartial.of(super().partial(**kwargs))

    @classmethod
    def mapped_conflicts(cls, shared: Mapping[str, Any], dag: Any) -> Iterable[tuple[str, Refusal]]:
        """Return refusals of shared arguments that cannot be right in this DAG."""
        return ()

    def conflicts(self) -> Iterable[tuple[str, Refusal]]:
        """Return refusals of arguments that conflict with each other or with the DAG, as far as it is parsed."""
        return ()

    def check_arguments(self) -> None:
        """Check the arguments as far as they are known while the DAG is parsed.

        :raises InvalidArgument: an argument cannot be right
        """
        check_arguments(self)

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Fill in the results of the tasks before; all results of mapped ones come in one request for each task."""
        super().render_template_fields(context, jinja_env)
        for name in self.template_fields:
            value = getattr(self, name)
            if (found := _fetched(value)) is not value:
                setattr(self, name, found)

    def execute(self, context: Context) -> Any:
        """Run the operator."""
        with translate_errors(self, context):
            return self.run(context)

    @abstractmethod
    def run(self, context: Context) -> Any:
        """Do the work and return the XCom: ids, URIs, digests and a few numbers."""


def _fetched(value: Any) -> Any:
    """Return a value with the results of mapped tasks as lists: Airflow requests each result anew at each use."""
    from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

    if isinstance(value, LazyXComSequence):
        return value[:]
    if isinstance(value, list | tuple) and any(isinstance(each, LazyXComSequence) for each in value):
        return [_fetched(each) for each in value]
    return value


@contextmanager
def translate_errors(operator: BaseOperator, context: Context) -> Iterator[None]:
    """Translate a modelway error: log it, push it as XCom ``failure``, and fail the task as the error says.

    The end of the attempt is recorded in the lineage.
    """
    try:
        with _translate_disk_full():
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
        # Airflow's own exceptions between a task and its runner, such as that it is skipped.
        raise
    except Exception as error:
        record_failure(operator, context, error)
        raise
    else:
        record_success(operator, context)


@contextmanager
def _translate_disk_full() -> Iterator[None]:
    """Raise the error of a full device in place of the failure that it caused."""
    try:
        yield
    except Exception as error:
        if isinstance(error, AirflowException) or (full := disk_full(error)) is None:
            raise
        raise full from error


def skip_when_blocked(version: RegisteredVersion) -> None:
    """Skip the task when the run may move no traffic; the reason goes into the task's log.

    :raises AirflowSkipException: it may not
    """
    if version.blocked_reason:
        raise AirflowSkipException(version.blocked_reason)
