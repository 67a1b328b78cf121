"""The values of a spec's references, read by the worker when it starts the job."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modelway.backends.base import Options
from modelway.errors import LineageUnavailable, SecretMissing
from modelway.hooks.connection import check_absent, connection


def with_secrets(options: Options) -> Options:
    """Return the options with each reference of ``env`` replaced by its value, which Airflow then masks in its logs.

    :raises SecretMissing: there is no such connection, field or variable
    :raises LineageUnavailable: Airflow does not answer for it
    """
    variables: Mapping[str, Any] = options.platform.get("env") or {}
    found = {name: _value(name, one) for name, one in variables.items() if _is_reference(one)}
    return replace(options, platform={**options.platform, "env": {**variables, **found}}) if found else options


def with_values(options: Options, values: Mapping[str, str], *, secret: str) -> Options:
    """Return the options with more variables of the environment.

    :param secret: the one whose value Airflow then masks in its logs
    """
    from airflow.sdk.log import mask_secret

    if secret in values:
        mask_secret(values[secret])
    variables: Mapping[str, Any] = options.platform.get("env") or {}
    return replace(options, platform={**options.platform, "env": {**variables, **values}}) if values else options


def _is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value.get("connection") or value.get("variable"))


def _value(name: str, reference: Mapping[str, Any]) -> str:
    from airflow.sdk.log import mask_secret

    if conn_id := reference.get("connection"):
        value = _of_connection(name, conn_id, reference.get("field") or "password")
    else:
        value = _of_variable(name, str(reference["variable"]))
    mask_secret(value)
    return value


def _of_connection(name: str, conn_id: str, field: str) -> str:
    found = connection(conn_id)
    if found is None:
        check_absent(conn_id)
        raise SecretMissing(
            f"there is no connection '{conn_id}', which the variable {name} of the job's environment needs",
            do="Make it in Airflow (Admin → Connections, or a secrets backend), and clear the task",
        )
    key = field.removeprefix("extra.")
    value = found.extra_dejson.get(key) if field.startswith("extra.") else getattr(found, field)
    if value in (None, ""):
        raise SecretMissing(
            f"the connection '{conn_id}' has no {field}, which the variable {name} of the job's environment needs",
            do="Add it to the connection, and clear the task",
        )
    return str(value)


def _of_variable(name: str, key: str) -> str:
    from airflow.sdk import Variable

    value = Variable.get(key, default=None)
    if value in (None, ""):
        _check_absent(key)
        raise SecretMissing(
            f"there is no variable '{key}', which the variable {name} of the job's environment needs",
            do="Make it in Airflow (Admin → Variables, or a secrets backend), and clear the task",
        )
    return str(value)


def _check_absent(key: str) -> None:
    """Check that a variable is absent, not only unavailable: Airflow reports both the same way."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable, VariableResult

    runner = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if runner is None:
        return
    try:
        answer = runner.send(GetVariable(key=key))
    except AirflowRuntimeError as error:
        answer = error.error
    is_empty = isinstance(answer, VariableResult)
    if not is_empty and not (isinstance(answer, ErrorResponse) and answer.error == ErrorType.VARIABLE_NOT_FOUND):
        raise LineageUnavailable(f"Airflow cannot say whether there is a variable {key}", do="Try again")
