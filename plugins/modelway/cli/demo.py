"""``modelway demo``: a real Airflow on this machine takes the model ``digits`` from code to weighted traffic."""

import argparse
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelway.cli._airflow_api import AirflowApi, TaskState
from modelway.cli._airflow_processes import LocalAirflow
from modelway.cli.run import repository
from modelway.errors import ModelwayError, NotWritable
from modelway.hooks.settings import Settings, load_settings

MODEL = "digits"
#: which of the 1,797 images the prediction is asked for
IMAGE = 1234


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help=f"start Airflow here and take the model '{MODEL}' to traffic")
    parser.add_argument("--exit", action="store_true", help="end after the summary instead of serving until Ctrl-C")
    parser.set_defaults(run=demo)


def demo(args: argparse.Namespace) -> int:
    """Run the demo; 0 when every part succeeded."""
    from rich.console import Console

    console = Console()
    settings = load_settings()
    with _stops_cleanly(), _only_one(settings.home):
        began = time.monotonic()
        with console.status("starting Airflow (api-server, scheduler, dag-processor, triggerer)"):
            airflow = LocalAirflow(home=settings.home, repository=repository())
            airflow.__enter__()
        try:
            return _run(console, settings, airflow, began, leave=args.exit)
        finally:
            with console.status("stopping Airflow, its jobs and the endpoint"):
                airflow.stop()


def _run(console: Any, settings: Settings, airflow: LocalAirflow, began: float, *, leave: bool) -> int:
    console.print(f"Airflow is healthy at {airflow.url} after {time.monotonic() - began:.0f} s", highlight=False)
    console.print(f"log in as admin with the password {airflow.password}", highlight=False)
    api = AirflowApi(url=airflow.url, username="admin", password=airflow.password)
    api.wait_for_dag(MODEL)
    _end_unfinished(console, api)
    api.unpause(MODEL)
    number = _next_version(settings)
    _restore(console, settings)
    run_id = api.trigger(MODEL, conf={"seed": number})
    console.print(f"DAG {MODEL}, run {run_id}, seed {number}", highlight=False)
    try:
        state, split, failures = _follow(console, settings, api, run_id, number)
    except KeyboardInterrupt:
        _end_unfinished(console, api)
        raise
    if state != "success":
        return _tell_failure(console, api, run_id)
    _summarise(console, settings, api, run_id, split)
    if failures:
        console.print(f"[bold red]{sum(failures.values())} requests failed during the rollout: {dict(failures)}[/]")
        return 1
    console.print(f"\nall of this took {time.monotonic() - began:.0f} s", highlight=False)
    if not leave:
        console.print("serving until Ctrl-C", highlight=False)
        threading.Event().wait()
    return 0


def _end_unfinished(console: Any, api: AirflowApi) -> None:
    """Fail the run of a demo that was stopped on its way: a new run would wait for it."""
    for state in ("running", "queued"):
        for run in api.call("GET", f"/dags/{MODEL}/dagRuns", params={"state": state})["dag_runs"]:
            run_id = run["dag_run_id"]
            api.call("PATCH", f"/dags/{MODEL}/dagRuns/{quote(run_id, safe='')}", json={"state": "failed"})
            console.print(f"run {run_id} was stopped on its way and is marked failed", highlight=False)


def _next_version(settings: Settings) -> int:
    from modelway.lineage.store import open_store

    models = {model.name: model.latest for model in open_store(settings.lineage_url).models()}
    return models.get(MODEL, 0) + 1


def _restore(console: Any, settings: Settings) -> None:
    """Bring back what the endpoint served when the demo was last stopped."""
    from modelway.endpoints.base import EndpointSpec, Predictor, load_endpoint

    endpoint = load_endpoint("local", root=settings.endpoint_root)
    status = endpoint.status(MODEL)
    if status is None:
        return
    predictors = tuple(
        Predictor(version=each.version, image=each.image, weight=each.weight) for each in status.predictors
    )
    stable = max(predictors, key=lambda each: each.weight).version
    status = endpoint.apply(EndpointSpec(name=MODEL, model=MODEL, predictors=predictors, stable=stable))
    weights = ", ".join(f"version {each.version} {each.weight} %" for each in predictors)
    console.print(f"the endpoint serves again at {status.url} ({weights})", highlight=False)


class _Run:
    """The run, as the progress display asks about it."""

    def __init__(self, api: AirflowApi, run_id: str) -> None:
        self.api = api
        self.run_id = run_id

    def state(self) -> str:
        return self.api.run_state(MODEL, self.run_id)

    def tasks(self) -> list[TaskState]:
        return self.api.tasks(MODEL, self.run_id)


def _follow(
    console: Any, settings: Settings, api: AirflowApi, run_id: str, number: int
) -> tuple[str, dict[int, dict[int, int]], dict[str, int]]:
    """Show progress and send traffic meanwhile; return the run's state, the split and failed requests."""
    from modelway.cli._progress import follow
    from modelway.cli._traffic import Traffic
    from modelway.endpoints.base import load_endpoint

    endpoint = load_endpoint("local", root=settings.endpoint_root)
    with Traffic(endpoint=endpoint, model=MODEL, requests=_requests(), new=number) as traffic:
        state = follow(console, run=_Run(api, run_id), order=_task_order())
    return state, traffic.counted(), dict(traffic.failures)


def _task_order() -> list[str]:
    from modelway.spec.load import load_spec, models_folder

    spec = load_spec(models_folder() / MODEL)
    return [
        "package",
        *(f"train.{stage.name}" for stage in spec.stages()),
        *("evaluate.checkpoint", "evaluate.select", "freeze.freeze", "freeze.verify", "freeze.register"),
        *("serve.build_image", "serve.deploy", "serve.promote"),
    ]


def _requests() -> list[dict[str, Any]]:
    """Return one inference request for each of the data set's last 100 images."""
    from sklearn.datasets import load_digits

    return [_request(image) for image in load_digits().images[-100:]]


def _request(image: Any) -> dict[str, Any]:
    data = image.astype(float).flatten().tolist()
    return {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": data}]}


def _summarise(
    console: Any, settings: Settings, api: AirflowApi, run_id: str, split: dict[int, dict[int, int]]
) -> None:
    from modelway.cli._summary import Extras, print_summary

    def xcom(task: str, key: str) -> Any:
        return api.xcom(MODEL, run_id, task, key=key)

    number = xcom("freeze.register", "return_value")["version"]
    links = {
        "DAG run": f"{api.url}/dags/{MODEL}/runs/{quote(run_id, safe='')}",
        "lineage": f"{api.url}/modelway/models/{MODEL}/versions/{number}",
        "models": f"{api.url}/plugin/models",
    }
    several = {weight: counts for weight, counts in split.items() if number > 1}
    extras = Extras(prediction=_predict(xcom("serve.promote", "return_value")["url"]), split=several, links=links)
    print_summary(console, xcom=xcom, extras=extras)


def _predict(url: str) -> str:
    """Ask the endpoint for one image and tell what it answered."""
    import httpx
    from sklearn.datasets import load_digits

    digits = load_digits()
    answer = httpx.post(f"{url}/v2/models/{MODEL}/infer", json=_request(digits.images[IMAGE]), timeout=30)
    if answer.status_code != 200:
        raise ModelwayError(f"the endpoint answered {answer.status_code}: {answer.text[:200]}", where=url)
    scores = answer.json()["outputs"][0]["data"]
    version = answer.headers["x-model-version"]
    return f"image {IMAGE} shows a {digits.target[IMAGE]}, version {version} answered {scores.index(max(scores))}"


def _tell_failure(console: Any, api: AirflowApi, run_id: str) -> int:
    from modelway.cli._summary import print_failure

    failures = {}
    for task in api.tasks(MODEL, run_id):
        if task.state == "failed":
            name = f"{task.task_id}[{task.map_index}]" if task.map_index >= 0 else task.task_id
            reason = api.xcom(MODEL, run_id, task.task_id, key="failure", map_index=task.map_index)
            failures[name] = str(reason or f"see its log at {api.url}/dags/{MODEL}/runs/{quote(run_id, safe='')}")
    print_failure(console, failures=failures)
    return 1


@contextmanager
def _stops_cleanly() -> Iterator[None]:
    """Turn SIGTERM into the same clean end as Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    # A shell that starts a command in the background makes it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the home folder: two schedulers on one database would both run the tasks."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "demo.lock").open("a+")
    except OSError as error:
        raise NotWritable(
            f"the home folder cannot be written ({error.strerror})",
            where=str(home),
            do="Make it writable, or set MODELWAY_HOME to a folder that is",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ModelwayError(
                f"a demo is running already, process {lock.read().strip()}",
                where=str(home),
                do="Stop it with Ctrl-C first",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
