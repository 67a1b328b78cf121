"""The figures of each benchmark that count, read from what it prints, each with the most that it may be."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number; ``target`` is the most that it may be, ``None`` where it is only watched."""

    name: str
    value: float
    unit: str
    target: float | None = None

    @property
    def is_missed(self) -> bool:
        """Whether the number is above its target."""
        return self.target is not None and self.value > self.target

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``bench/results.json`` has it."""
        return asdict(self)


def figures_of(bench: str, document: Document) -> list[Figure]:
    """Return the figures of one benchmark.

    :param document: the last line that the benchmark printed
    """
    return list(_READERS[bench](document))


def _parse(document: Document) -> Iterator[Figure]:
    targets = {"parse": 1.5, "dag-processor": 1.0}
    for row in document["ratios"]:
        if row["what"] not in (*targets, "parse, nothing stored") or row["models"] < 100:
            continue
        name = f"{row['what']}, {row['models']} models, {row['contestant']}"
        target = targets.get(row["what"]) if row["contestant"] == "modelway" else None
        yield Figure(name=name, value=row["ratio"], unit="x a DAG file written by hand", target=target)


def _loop(document: Document) -> Iterator[Figure]:
    targets = {"lint one": 0.4, "lint many": 4.0, "help": 0.15}
    for part, most in targets.items():
        if found := document["seconds"].get(f"{part} now"):
            name = f"lint of {document['specs']} models" if part == "lint many" else part
            yield Figure(name=name, value=found["cpu"], unit="CPU seconds", target=most)
    for unit, value in document["ratios"].get("run", {}).items():
        yield Figure(name=f"run, {unit}", value=value, unit=f"x commit {document['base']}", target=0.5)


def _evaluate(document: Document) -> Iterator[Figure]:
    for result in document["results"]:
        for name, value in result["times_the_ideal"].items():
            if name != "ideal":
                title = f"{document['checkpoints']} checkpoints, {result['passes']} passes, {name}"
                yield Figure(name=title, value=value, unit="x half of a plain loop")


def _search(document: Document) -> Iterator[Figure]:
    name = f"{document['candidates']} candidates, the best of {document['eta']} continue"
    yield Figure(name=name, value=document["cpu_ratio"], unit="x the CPU time of the grid", target=0.45)
    yield Figure(name=name, value=document["worse_by"], unit="of the best loss worse", target=0.01)


def _jobs(document: Document) -> Iterator[Figure]:
    name = f"{document['jobs']} jobs"
    yield Figure(name=f"{name}, requests", value=document["requests_per_job"], unit="a job", target=2.0)
    yield Figure(name=f"{name}, CPU", value=document["cpu_ms_per_job_minute"], unit="ms a job and minute")


def _vertex(document: Document) -> Iterator[Figure]:
    name = f"{document['jobs']} jobs"
    yield Figure(name=f"{name}, CPU", value=document["cpu_seconds_a_minute"], unit="CPU seconds a minute", target=2.0)
    yield Figure(name=f"{name}, lists", value=document["list_calls_a_minute"], unit="calls a minute", target=10.0)
    yield Figure(name=f"{name}, gets", value=document["get_calls_a_minute"], unit="calls a minute")


def _google(document: Document) -> Iterator[Figure]:
    ours, theirs = document["modelway"], document.get("provider")
    yield Figure(name="a task, CPU", value=ours["cpu_seconds_of_a_task"], unit="CPU seconds", target=1.0)
    for name, unit in {
        "cpu_ms_of_each_further_job": "ms of CPU",
        "requests_of_a_submit": "requests",
        "cpu_ms_a_job_and_minute": "ms of CPU",
        "requests_a_job_and_minute": "requests",
        "cpu_seconds_of_a_job_of_an_hour": "CPU seconds",
        "requests_of_a_job_of_an_hour": "requests",
    }.items():
        yield Figure(name=name.replace("_", " "), value=ours[name], unit=unit)
    for name, value in (theirs or {}).items():
        if value:
            unit, ratio = "x the provider's operator", round(ours[name] / value, 3)
            target = 0.2 if name.endswith("_hour") else None
            yield Figure(name=name.replace("_", " "), value=ratio, unit=unit, target=target)


def _lineage(document: Document) -> Iterator[Figure]:
    for name, row in (document["register"] | document["read"]).items():
        for who, value in row["times_modelway"].items():
            if who == "floor":
                yield Figure(name=name, value=round(1 / value, 2), unit="x plain SQL")
            elif who == "mlflow":
                yield Figure(name=name, value=round(1 / value, 3), unit="x MLflow", target=1.0)
    for name, row in document.get("growth", {}).items():
        yield Figure(name=f"{name}, {document['many']} versions", value=row["ratio"], unit=f"x {document['versions']}")


def _pages(document: Document) -> Iterator[Figure]:
    """The lists beside what has the same records, and when a page is seen."""
    size = f"{document['versions']} versions, {document['models']} models"
    for name, by_contestant in document["p95_ms"].items():
        ours = by_contestant["modelway"]
        for who, unit, most in (("sql", "x plain SQL", 3.0), ("mlflow", "x MLflow's search", 0.1)):
            if who in by_contestant:
                value = round(ours / by_contestant[who], 3)
                yield Figure(name=f"{size}, list of {name}, p95", value=value, unit=unit, target=most)
    for name, value in document.get("first_paint_ms", {}).items():
        yield Figure(name=f"{size}, {name}, first paint", value=value, unit="ms", target=1000)


def _image(document: Document) -> Iterator[Figure]:
    for each in document["targets"]:
        yield Figure(name=each["name"], value=each["value"], unit=each["unit"], target=each["target"])


def _route(document: Document) -> Iterator[Figure]:
    for name, by_clients in document["contestants"].items():
        for clients, row in by_clients.items():
            title, ours = f"{name}, clients: {clients}", name == "modelway"
            for key, what, most in (("p50_ms", "p50", 1.05), ("p99_ms", "p99", None), ("cpu_us", "CPU", None)):
                value = row[f"{key}_by_haproxy"]
                if name != "haproxy":
                    target = most if ours else None
                    yield Figure(name=f"{title}, {what}", value=value, unit="x HAProxy alone", target=target)
    effect = document["weight_change_ms"]
    yield Figure(name="weight change to its full effect", value=effect["effect_most"], unit="ms", target=100)


def _serve(document: Document) -> Iterator[Figure]:
    for model, servers in document["models"].items():
        # the encoder's own time is nearly all of a request's
        small = model == "digits"
        for server, found in servers.items():
            ours = server == "modelway"
            ready = 1.0 if ours else None
            yield Figure(name=f"{model}, {server}, ready", value=found["ready_s"], unit="s", target=ready)
            for clients, row in found["clients"].items():
                name = f"{model}, {server}, clients: {clients}"
                yield from _served(name, row, lone=clients == "1", small=small and ours, floor=server == "floor")
        for peer in [each for each in servers if each not in ("floor", "modelway")]:
            for clients, row in servers["modelway"]["clients"].items():
                value = round(row["cpu_us"] / servers[peer]["clients"][clients]["cpu_us"], 3)
                most = 0.333 if small else None
                yield Figure(
                    name=f"{model}, modelway, clients: {clients}, CPU", value=value, unit=f"x {peer}", target=most
                )


def _served(name: str, row: Mapping[str, float], *, lone: bool, small: bool, floor: bool) -> Iterator[Figure]:
    if floor:
        yield Figure(name=f"{name}, CPU of a request", value=row["cpu_us"], unit="microseconds")
        yield Figure(name=f"{name}, p50", value=row["p50_ms"], unit="ms")
        return
    targets = (None, 1.05) if lone else (0.8, None)
    for key, title, most in zip(("cpu_us", "p50_ms"), ("CPU of a request", "p50"), targets, strict=True):
        value, target = row[f"{key}_by_floor"], most if small else None
        yield Figure(name=f"{name}, {title}", value=value, unit="x the floor", target=target)


def _serving(document: Document) -> Iterator[Figure]:
    yield Figure(name="p99 of the others", value=document["p99_ratio"], unit="x before the abuse", target=3.0)
    yield Figure(name="memory", value=document["memory_mib"], unit="MiB", target=512)
    yield Figure(name="wrong answers", value=document["beside"]["wrong"], unit="", target=0)


def _cost(document: Document) -> Iterator[Figure]:
    for kind, of in document.items():
        yield Figure(name=f"a row as {kind}", value=next(iter(of.values()))["cpu_us"], unit="CPU microseconds")


def _counting(document: Document) -> Iterator[Figure]:
    for rate, share in document["shares"].items():
        name = f"counting, {rate} requests a second"
        yield Figure(name=name, value=round(100 * share, 2), unit="% of a request's CPU", target=1.0)
    yield Figure(name="counting, in a burst", value=round(100 * document["burst"], 2), unit="% of a request's CPU")


def _train(document: Document) -> Iterator[Figure]:
    for result in document["results"]:
        # The times of a CPU are only watched.
        target = document["target"] if result["gpu"] else None
        for part, value in result["overhead"].items():
            name = f"{result['workload']}, {part}, {result['gpu'] or 'CPU'}"
            yield Figure(name=name, value=value, unit="more than the bare script", target=target)


def _bytes(document: Document) -> Iterator[Figure]:
    targets: dict[str, tuple[str, str, float | None]] = {
        "on_disk": ("on the disk after a run", "x the model", 4.0),
        "written": ("written", "x the model", 5.0),
        "wall": ("package to promote", "x a bare script", 1.5),
        "cpu": ("CPU, less that of 1 MB", "x a bare script", None),
        "memory": ("largest process", "MB", 128.0),
    }
    for name, (title, unit, most) in targets.items():
        title = f"{document['megabytes']} MB, {title}"
        yield Figure(name=title, value=document["ratios"][name], unit=unit, target=most)


def _monitor(document: Document) -> Iterator[Figure]:
    judges = {"modelway": document["results"], **document["peers"]}
    for case in document["results"]:
        for judge, cases in judges.items():
            # Who is not installed has none.
            if (row := cases.get(case)) is None:
                continue
            ours, name = judge == "modelway", f"{case}, {judge}"
            if row["false_a_half_year"] is not None:
                value, target = round(row["false_a_half_year"], 2), 1.0 if ours else None
                yield Figure(name=name, value=value, unit="false alarms a model and 26 weeks", target=target)
            # Who alarms on most days has found nothing when it alarms on the first day of a change.
            if row["days_to_find"] is not None and ours:
                days = [document["days"] if each is None else each for each in row["days_to_find"]]
                target = 1.0 if row["at_once"] else None
                yield Figure(name=name, value=max(days), unit="days to find it, at most", target=target)


def _fleet(document: Document) -> Iterator[Figure]:
    size = f"{document['models']} models, {int(document['ours']['runs'])} runs"
    yield Figure(name=size, value=1 / document["ratio"], unit="x the CPU of empty DAGs", target=1 / 0.9)
    first, last = (1 / document["tasks_per_cpu_second_by_hour"][at] for at in (0, -1))
    for name, value, unit in (
        (size, document["ours"]["tasks_per_cpu_second"], "tasks a second of the scheduler's and the database's CPU"),
        (f"{size}, CPU of a task in the last hour", last / first, "x that of the first hour"),
        ("the process after a run", document["follow_up_cpu_seconds"], "CPU seconds"),
        ("a version registered", 1000 * document["lineage"]["small"]["cpu_seconds_per_run"], "ms of CPU"),
    ):
        yield Figure(name=name, value=round(value, 2), unit=unit)
    for key, unit in (("rows_per_run", "rows a run"), ("bytes_per_run", "bytes a run")):
        for name, row in (
            (f"{size}, Airflow", document["ours"]),
            ("lineage, large runs", document["lineage"]),
            ("lineage, small runs", document["lineage"]["small"]),
        ):
            yield Figure(name=name, value=round(row[key], 1), unit=unit)
    for name, (few, many) in document["lineage"]["queries"].items():
        yield Figure(name=f"lineage, {name}, after the last hour", value=round(many / few, 2), unit="x the first")


def _rollout(document: Document) -> Iterator[Figure]:
    """What is wrong with each judge: good versions that it rolls back, bad ones that it does not find in an hour."""
    for scenario, row in document["results"].items():
        for judge, found in row["judges"].items():
            ours = judge == "modelway"
            name = f"{scenario}, {judge}"
            if row["good"]:
                value, target = 100 * found["rolled_back"], 5.0
                yield Figure(name=name, value=round(value, 2), unit="% rolled back", target=target if ours else None)
            elif row["never_promoted"]:
                value = 100 * found["promoted"]
                yield Figure(name=name, value=round(value, 2), unit="% promoted", target=0.0 if ours else None)
            else:
                value, target = 100 * (1 - found["within_the_hour"]), 5.0 if row["must_be_found"] and ours else None
                yield Figure(name=name, value=round(value, 2), unit="% not found in an hour", target=target)


_READERS: Mapping[str, Callable[[Document], Iterator[Figure]]] = {
    "bytes": _bytes,
    "cost": _cost,
    "counting": _counting,
    "evaluate": _evaluate,
    "fleet": _fleet,
    "google": _google,
    "image": _image,
    "jobs": _jobs,
    "lineage": _lineage,
    "loop": _loop,
    "parse": _parse,
    "monitor": _monitor,
    "pages": _pages,
    "rollout": _rollout,
    "route": _route,
    "search": _search,
    "serve": _serve,
    "serving": _serving,
    "train": _train,
    "vertex": _vertex,
}
