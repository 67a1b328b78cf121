"""The few calls of Airflow's public REST API (v2) that the command needs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from modelway.errors import EndpointNotReady, ModelwayError, UnknownModel

#: of a call that met a locked database
ATTEMPTS = 10
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """One task instance of a run."""

    task_id: str
    map_index: int
    state: str | None
    seconds: float
    try_number: int


#: how Airflow answers when its database was locked
LOCKED = ((500, "Database error"), (503, "Database is locked"))


class AirflowApi:
    """A logged-in client of one Airflow."""

    def __init__(self, *, url: str, username: str, password: str) -> None:
        """Log in.

        :raises EndpointNotReady: Airflow does not answer or refuses the login
        """
        import httpx

        self.url = url
        self._client = httpx.Client(base_url=url, timeout=60)
        with self._answering():
            answer = self._client.post("/auth/token", json={"username": username, "password": password})
        if answer.status_code >= 300:
            raise EndpointNotReady(f"Airflow refused the login of '{username}' ({answer.status_code})", where=url)
        self._use(answer.json()["access_token"])

    @classmethod
    def with_token(cls, *, url: str, token: str) -> Self:
        """Return a client of somebody who is logged in already; nothing is called."""
        import httpx

        found = cls.__new__(cls)
        found.url = url
        # Nobody closes it: a connection is closed after each answer.
        found._client = httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
        found._use(token)
        return found

    def _use(self, token: str) -> None:
        self.token = token
        self._client.headers["Authorization"] = f"Bearer {token}"

    def read(self, path: str, *, params: Mapping[str, Any]) -> tuple[int, Any]:
        """Return status and answer of a path of the server that is not Airflow's own: JSON, else text.

        :raises EndpointNotReady: Airflow does not answer
        """
        with self._answering():
            answer = self._client.get(path, params=dict(params), headers={"accept": "application/json"})
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.status_code, answer.json() if is_json else answer.text[:500]

    def call(self, method: str, path: str, **request: Any) -> Any:
        """Make one call and return the JSON answer.

        :raises EndpointNotReady: Airflow does not answer
        :raises ModelwayError: it answers with an error
        """
        answer = self._request(method, path, **request)
        if answer.status_code >= 300:
            raise self._refused(method, path, answer)
        return answer.json() if answer.content else None

    def _request(self, method: str, path: str, **request: Any) -> Any:
        """Make one call; where Airflow's database was locked nothing was done, and it is made again.

        In Airflow 3.3.2 the log of users' actions is written on the event loop, where with SQLite it can wait for
        another request that waits for the event loop: after SQLite's five seconds the call is answered 500. A backfill
        that cannot be written is answered 503.
        """
        for _ in range(ATTEMPTS):
            with self._answering():
                answer = self._client.request(method, f"/api/v2{path}", **request)
            if not any(answer.status_code == status and text in answer.text for status, text in LOCKED):
                break
            time.sleep(PAUSE_SECONDS)
        return answer

    @contextmanager
    def _answering(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.HTTPError as error:
            why = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise EndpointNotReady(f"Airflow's API does not answer ({why})", where=self.url) from error

    def _refused(self, method: str, path: str, answer: Any) -> ModelwayError:
        return ModelwayError(f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}", where=self.url)

    def wait_for_dag(self, dag_id: str, *, seconds: float = 120) -> None:
        """Wait until the DAG was parsed.

        :raises UnknownModel: it is not there in time; the message repeats Airflow's import errors
        """
        deadline = time.monotonic() + seconds
        while self._request("GET", f"/dags/{dag_id}").status_code != 200:
            errors = [each["stack_trace"].strip() for each in self.call("GET", "/importErrors")["import_errors"]]
            if time.monotonic() > deadline:
                listed = ("\n" + "\n".join(errors)) if errors else ""
                known = [dag["dag_id"] for dag in self.call("GET", "/dags")["dags"]]
                raise UnknownModel(f"no DAG '{dag_id}' was parsed{listed}", known=known, given=dag_id)
            time.sleep(0.5)

    def unpause(self, dag_id: str) -> None:
        """Let the DAG run."""
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, *, conf: dict[str, Any] | None = None) -> str:
        """Start a run and return its id."""
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the run's state: queued, running, success or failed."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return the run as Airflow describes it."""
        found: dict[str, Any] = self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")
        return found

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the run's task instances."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", path, params={"limit": 100, "offset": len(found)})
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                break
        return [
            TaskState(
                task_id=each["task_id"],
                map_index=each["map_index"],
                state=each["state"],
                seconds=float(each["duration"] or 0),
                try_number=each["try_number"],
            )
            for each in found
        ]

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """Return an XCom value, or ``None`` when there is none."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self._request("GET", path, params={"map_index": map_index, "deserialize": "false"})
        if answer.status_code == 404:
            return None
        if answer.status_code >= 300:
            raise self._refused("GET", path, answer)
        return answer.json()["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Return a task's log as text."""
        answer = self.call(
            "GET",
            f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/logs/{try_number}",
            params={"map_index": map_index, "full_content": "true"},
            headers={"Accept": "application/json"},
        )
        return "\n".join(str(each.get("event", each)) if isinstance(each, dict) else each for each in answer["content"])

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clear the whole run, so that every task runs again."""
        self.call("POST", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/clear", json={"dry_run": False})
