"""The lineage as an Airflow's pages answer it to programs: for a machine that has no access to the database."""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from modelway.errors import EndpointNotReady, ModelwayError, UnknownEndpoint, UnknownModel, UnknownRun, UnknownVersion
from modelway.lineage.records.answers import ServingRecord
from modelway.lineage.records.version import ModelSummary, RolloutRecord, RunAccount, VersionDetail, VersionSummary

if TYPE_CHECKING:
    from modelway.localairflow.rest import AirflowApi

#: where Airflow is, and a token of it: what ``--server`` and the environment name
SERVER, TOKEN = "MODELWAY_SERVER", "MODELWAY_TOKEN"
#: versions of a page of the API
LISTED = 50
#: what the API says is not there, by the name that it gives
_UNKNOWN = {each.__name__: each for each in (UnknownEndpoint, UnknownModel, UnknownRun, UnknownVersion)}

_Record = TypeVar("_Record")


def remote_airflow() -> "AirflowApi | None":
    """Return the Airflow that ``--server`` or MODELWAY_SERVER names, logged in; None without one.

    The token is MODELWAY_TOKEN, else it is fetched with the login of AIRFLOW_CONN_MODELWAY_AIRFLOW.

    :raises ModelwayError: there is neither
    :raises EndpointNotReady: Airflow does not answer, or refuses the login
    """
    from modelway.hooks.fields import fields_from_environment
    from modelway.localairflow.rest import AirflowApi

    if not (url := os.environ.get(SERVER)):
        return None
    if token := os.environ.get(TOKEN):
        return AirflowApi.with_token(url=url, token=token)
    fields = fields_from_environment("modelway_airflow")
    if fields is None or not fields.login:
        raise ModelwayError(
            "no login for Airflow is known",
            where=url,
            do=f"Set {TOKEN} to a token of it (POST /auth/token), or AIRFLOW_CONN_MODELWAY_AIRFLOW to a login",
        )
    return AirflowApi(url=url, username=fields.login, password=fields.password)


class RemoteLineage:
    """What the user of a login may read of the lineage, by the calls that commands make."""

    def __init__(self, api: "AirflowApi") -> None:
        """Read by an Airflow's API."""
        self._api = api

    def models(self) -> list[ModelSummary]:
        """Return the models, by name."""
        return _read(list[ModelSummary], self._get("models")["models"])

    def versions(self, model: str) -> list[VersionSummary]:
        """Return the versions of a model, newest first.

        :raises UnknownModel: there is no such model that one may read
        """
        found: list[VersionSummary] = []
        while True:
            query = {"before": found[-1].number} if found else {}
            listed = _read(list[VersionSummary], self._get(f"models/{_segment(model)}", **query)["versions"])
            # A server of an earlier modelway does not know where to continue, and begins again.
            if found and listed and listed[0].number >= found[-1].number:
                return found
            found += listed
            if len(listed) < LISTED:
                return found

    def find(self, model: str, wanted: str) -> int:
        """Return the number of the version that a number, an alias or ``latest`` means.

        :raises UnknownModel: there is no such model that one may read
        :raises UnknownVersion: there is no such version
        """
        return self.version(model, wanted).summary.number

    def find_at(self, model: str, wanted: str, at: datetime) -> int:
        """Return the version that an alias pointed at, or that was the latest, at a time; raises as ``find`` does."""
        found: int = self._get(f"models/{_segment(model)}/was", wanted=wanted, at=at.isoformat())["version"]
        return found

    def version(self, model: str, number: int | str) -> VersionDetail:
        """Return the whole record of a version; raises as ``find`` does."""
        return _read(VersionDetail, self._get(f"models/{_segment(model)}/versions/{_segment(str(number))}"))

    def serving(self, *, model: str | None = None, at: datetime | None = None) -> list[ServingRecord]:
        """Return which versions serve where, now or at a time."""
        query = {} if at is None else {"at": at.isoformat()}
        found = _read(list[ServingRecord], self._get("serving", **query)["serving"])
        return [each for each in found if model in (None, each.model)]

    def rollouts(self, endpoint: str) -> list[RolloutRecord]:
        """Return the newest rollouts of an endpoint, newest first; none where there is no such endpoint."""
        return _read(list[RolloutRecord], self._endpoint(endpoint).get("rollouts", []))

    def rollout(self, endpoint: str, run: str) -> RolloutRecord | None:
        """Return the rollout of a run, by its key; None: it has none there."""
        return next((each for each in self.rollouts(endpoint) if each.run_id == run), None)

    def served_before(self, endpoint: str) -> tuple[int | None, int | None]:
        """Return the version that took over an endpoint last, and the one before it; None where none did."""
        found = self._endpoint(endpoint).get("served", {})
        return found.get("current"), found.get("before")

    def _endpoint(self, endpoint: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = self._get(f"endpoints/{_segment(endpoint)}")
        except UnknownEndpoint:
            return {}
        return found

    def account(self, wanted: str, *, model: str | None = None) -> RunAccount:
        """Return how a run, or a model's last run, went.

        :raises UnknownRun: there is no such run that one may read
        """
        query = {"wanted": wanted} | ({} if model is None else {"model": model})
        return _read(RunAccount, self._get("account", **query))

    def _get(self, path: str, **query: Any) -> Any:
        status, answer = self._api.read(f"/modelway/api/{path}", params=query)
        if status < 300 and isinstance(answer, dict):
            return answer
        if status < 300:
            # Airflow's own page answers every path that nobody else does.
            raise ModelwayError(
                "this Airflow has no pages of modelway",
                where=self._api.url,
                do="Install modelway there, or check the URL",
            )
        said = answer if isinstance(answer, dict) else {"detail": answer}
        text = str(said.get("detail", "")).rstrip(".")
        if status == 404 and (kind := _UNKNOWN.get(str(said.get("error")))):
            raise kind(text, where=self._api.url)
        if status == 401:
            raise EndpointNotReady("the token is not valid, or has expired", where=self._api.url, do="Get another one")
        raise ModelwayError(f"Airflow answers {status}: {text}", where=self._api.url)


def _segment(text: str) -> str:
    return quote(text, safe="")


def _read(kind: type[_Record], data: Any) -> _Record:
    """Return plain data as records."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(data)
