"""``modelway demo``: a real Airflow on this machine takes the model ``digits`` from code to weighted traffic."""

import argparse
import shlex
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from modelway.cli._endpoints import (
    local_endpoints,
    open_local,
    serving_lines,
    serving_names,
    split_text,
    start_endpoint,
    stop_endpoint,
)
from modelway.cli.output.traffic import Traffic
from modelway.errors import EndpointNotReady, ModelwayError, UnknownModel
from modelway.hooks.settings import Settings, load_settings
from modelway.localairflow.dag_files import repository
from modelway.localairflow.home_lock import only_one
from modelway.localairflow.interrupts import ignore_interrupts, interrupt_once
from modelway.localairflow.jobs_elsewhere import names_elsewhere, stop_jobs_elsewhere
from modelway.localairflow.leftovers import recorded_start
from modelway.localairflow.processes import START_SECONDS, LocalAirflow
from modelway.localairflow.rest import AirflowApi, TaskState
from modelway.localairflow.restarts import Restarts
from modelway.spec.problems import display

MODEL = "digits"
#: which of the 1,797 images the prediction is for
IMAGE = 1234
Answer = TypeVar("Answer")


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help=f"start Airflow here and bring the model '{MODEL}' to traffic")
    parser.add_argument("--exit", action="store_true", help="end after the summary instead of serving until Ctrl-C")
    parser.set_defaults(run=demo)


def demo(args: argparse.Namespace) -> int:
    """Run the demo; 0 when every part succeeded."""
    from rich.console import Console

    console = Console()
    settings = load_settings()
    _see_its_model()
    interrupt_once()
    with (
        only_one(settings.home, command="modelway demo"),
        recorded_start(settings.home, command="modelway demo", serving=settings.endpoint_root) as (mark, left),
    ):
        if left:
            console.print(left, markup=False, highlight=False, soft_wrap=True)
        began = time.monotonic()
        others = serving_names(settings)
        airflow = LocalAirflow(home=settings.home, repository=repository(), environment=mark)
        tried: frozenset[str] = frozenset()
        try:
            try:
                tried = _stop_elsewhere(console, settings, airflow)
                with console.status("starting Airflow (api-server, scheduler, dag-processor, triggerer)"):
                    airflow.__enter__()
                return _run(console, settings, airflow, began, leave=args.exit)
            finally:
                ignore_interrupts()
        # Its own block: an interrupt just before they are ignored must not skip it.
        finally:
            with console.status("stopping Airflow, its jobs and the endpoint"):
                outlived = _stop(settings, airflow, others=others, tried=tried)
            # The demo's own error matters more.
            with suppress(ModelwayError):
                _say_what_is_left(console, settings, outlived)


def _see_its_model() -> None:
    """Check that the model of the demo exists.

    :raises UnknownModel: it does not, as where modelway was installed as a package
    """
    from modelway.spec.load import find_specs, models_folder

    if not (models_folder() / MODEL).is_dir():
        raise UnknownModel(
            f"the demo's model '{MODEL}' is not there",
            where=str(models_folder()),
            known=[file.parent.name for file in find_specs(models_folder())[0]],
            do="Run the demo in a clone of modelway, or a model of your own with: modelway run MODEL",
        )


def _stop_elsewhere(console: Any, settings: Settings, airflow: LocalAirflow) -> frozenset[str]:
    """Stop the jobs elsewhere that a killed command left, before Airflow starts others; return which keep running."""
    if names_elsewhere(settings.home):
        airflow.prepare()
        with console.status("stopping jobs that a command before left"):
            lines = stop_jobs_elsewhere(settings.home, environment=airflow.environment)
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return names_elsewhere(settings.home)


def _stop(
    settings: Settings, airflow: LocalAirflow, *, others: Collection[str], tried: Collection[str] = ()
) -> list[str]:
    """Stop Airflow and its jobs, then what serves, except the ``others``, which served before the demo began.

    Returns a line for each job elsewhere that outlived Airflow, except those that it ``tried`` to stop before.
    """
    try:
        airflow.stop()
        if not airflow.environment:
            return []
        return stop_jobs_elsewhere(settings.home, environment=airflow.environment, but=tried)
    finally:
        for status in local_endpoints(settings):
            if status.name == MODEL or status.name not in others:
                stop_endpoint(settings, status.name, actor="demo")


def _say_what_is_left(console: Any, settings: Settings, outlived: Collection[str]) -> None:
    """Print what was stopped, what keeps running, and which commands work now."""
    command = shlex.quote(display(Path(sys.argv[0])))
    jobs = "its jobs on this machine" if outlived else "its jobs"
    lines = [f"Airflow, {jobs} and the endpoint are stopped", *outlived, *serving_lines(settings), "from here:"]
    if latest := _next_version(settings) - 1:
        lines.append(f"  {command} show {MODEL} {latest}")
    if local_endpoints(settings):
        lines.append(f"  {command} endpoint start {MODEL}")
    lines.append(f"  {command} run {MODEL}")
    lines.append("  make demo" if repository() else f"  {command} demo")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


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
        state, traffic = _follow(console, settings, _Run(Restarts(airflow), api, run_id), number)
    except KeyboardInterrupt:
        # Airflow may be stopping too; the next demo then does this.
        with suppress(ModelwayError):
            _end_unfinished(console, api)
        raise
    if state != "success":
        return _print_failure(console, api, run_id)
    _summarise(console, settings, api, run_id, traffic.counted())
    if problem := traffic.problem():
        console.print(problem, style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print(f"\nall of this took {time.monotonic() - began:.0f} s", highlight=False)
    if not leave:
        console.print("serving until Ctrl-C", highlight=False)
        threading.Event().wait()
    return 0


def _end_unfinished(console: Any, api: AirflowApi) -> None:
    """Fail the run of an interrupted demo: a new run would wait for it."""
    for state in ("running", "queued"):
        for run in api.call("GET", f"/dags/{MODEL}/dagRuns", params={"state": state})["dag_runs"]:
            run_id = run["dag_run_id"]
            api.call("PATCH", f"/dags/{MODEL}/dagRuns/{quote(run_id, safe='')}", json={"state": "failed"})
            console.print(f"run {run_id} was stopped on its way and is marked failed", highlight=False)


def _next_version(settings: Settings) -> int:
    from modelway.lineage.store import open_lineage

    lineage = open_lineage(settings.lineage_url, read_only=True)
    models = {model.name: model.latest for model in lineage.models()} if lineage else {}
    return models.get(MODEL, 0) + 1


def _restore(console: Any, settings: Settings) -> None:
    """Restart every endpoint of the home that does not answer; print where each serves, or why it does not."""
    for before in local_endpoints(settings):
        try:
            status = before if before.ready else start_endpoint(settings, before.name, actor="demo")
        except ModelwayError as error:
            console.print(f"the endpoint {before.name} does not serve again: {error}", markup=False, highlight=False)
            continue
        since = "still serves" if before.ready else "serves again"
        console.print(f"the endpoint {before.name} {since} at {status.url} ({split_text(status)})", highlight=False)


class _Run:
    """The run, as the progress display reads it."""

    def __init__(self, restarts: Restarts, api: AirflowApi, run_id: str) -> None:
        self.restarts = restarts
        self.api = api
        self.run_id = run_id

    def state(self) -> str:
        return self._call(lambda: self.api.run_state(MODEL, self.run_id))

    def tasks(self) -> list[TaskState]:
        return self._call(lambda: self.api.tasks(MODEL, self.run_id))

    def _call(self, request: Callable[[], Answer]) -> Answer:
        """Call the API; while it does not answer, since its process ended and starts again, call it once more."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return request()
            except EndpointNotReady:
                if time.monotonic() > deadline:
                    raise
                # A process's connections close a moment before its end is seen.
                time.sleep(1)
                self.restarts.check()


def _follow(console: Any, settings: Settings, run: _Run, number: int) -> tuple[str, Traffic]:
    """Show progress and send traffic meanwhile; return the run's state and the traffic with its answers."""
    from modelway.cli.output.progress import follow, task_order
    from modelway.spec.load import load_spec, models_folder

    with Traffic(endpoint=open_local(settings), model=MODEL, requests=_requests(), new=number) as traffic:
        order = task_order(load_spec(models_folder() / MODEL))
        state = follow(console, run=run, order=order, each=run.restarts.check)
    return state, traffic


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
    from modelway.cli.output.summary import Extras, print_summary

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
    """Send one image to the endpoint and return a line about its answer."""
    import httpx
    from sklearn.datasets import load_digits

    digits = load_digits()
    answer = httpx.post(f"{url}/v2/models/{MODEL}/infer", json=_request(digits.images[IMAGE]), timeout=30)
    if answer.status_code != 200:
        raise ModelwayError(f"the endpoint answered {answer.status_code}: {answer.text[:200]}", where=url)
    scores = answer.json()["outputs"][0]["data"]
    version = answer.headers["x-model-version"]
    return f"image {IMAGE} shows a {digits.target[IMAGE]}, version {version} answered {scores.index(max(scores))}"


def _print_failure(console: Any, api: AirflowApi, run_id: str) -> int:
    from modelway.cli.output.summary import print_failure

    failures = {}
    for task in api.tasks(MODEL, run_id):
        if task.state == "failed":
            name = f"{task.task_id}[{task.map_index}]" if task.map_index >= 0 else task.task_id
            reason = api.xcom(MODEL, run_id, task.task_id, key="failure", map_index=task.map_index)
            failures[name] = str(reason or f"see its log at {api.url}/dags/{MODEL}/runs/{quote(run_id, safe='')}")
    print_failure(console, failures=failures)
    return 1
