"""``docs/benchmarks.md`` as it follows from ``bench/results.json``: ``python bench/page.py`` writes it."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results.json"
PAGE = REPOSITORY / "docs" / "benchmarks.md"
#: what is measured, and where it is described
TITLES = {
    "bytes": ("The bytes of a model on its way, beside a bare script", "bench/bytes/run.py"),
    "cost": ("What a small request costs the server", "bench/serving/cost.py"),
    "counting": ("What a request pays for the counts that the monitor reads", "bench/serving/counting.py"),
    "evaluate": ("Evaluating many checkpoints, beside a plain loop", "bench/evaluate/run.py"),
    "fleet": ("What many models cost Airflow's scheduler and database, beside empty DAGs", "bench/fleet/run.py"),
    "google": ("Jobs on Vertex AI, beside the google provider's operator", "bench/jobs/beside_google.py"),
    "image": ("Images of models into a registry, beside docker, buildah and oras", "bench/image/run.py"),
    "jobs": ("Following many jobs on Kubernetes", "bench/jobs/run.py"),
    "lineage": ("The lineage, beside MLflow and plain SQL", "bench/lineage/run.py"),
    "loop": ("The daily loop, beside an earlier build", "bench/loop/run.py"),
    "pages": (
        "The pages at 10,000 versions and 1,000 models, beside plain SQL and MLflow's search",
        "bench/pages/run.py",
    ),
    "parse": ("One DAG per model, beside DAG files written by hand", "bench/parse/run.py"),
    "monitor": ("Simulated half years: false retrainings and found changes", "bench/monitor/run.py"),
    "rollout": ("Simulated canaries: false rollbacks and found faults", "bench/rollout/run.py"),
    "route": ("A gateway before three versions, beside HAProxy alone, nginx and Python", "bench/route/run.py"),
    "search": ("Successive halving beside the whole grid, 27 candidates", "bench/search/run.py"),
    "serve": (
        "The model server, beside bare uvicorn, KServe, BentoML, LitServe and MLflow",
        "bench/serving/compare.py",
    ),
    "serving": ("A model server beside clients that do their worst", "bench/serving/abuse.py"),
    "train": ("Training through the job contract, beside a bare script", "bench/train/run.py"),
    "vertex": ("Following many jobs on Vertex AI", "bench/jobs/vertex.py"),
}
HEAD = """# Benchmarks

The figures of the last run of each benchmark. `make bench` runs all, `make bench ARGS="--only parse"` one; both write
`bench/results.json` and this page, which `python bench/page.py` makes from it. A target is the most that a figure may
be: one above it is marked here, and `make bench` then ends with exit status 1. Ratios are measured in the same run, so
they hold on a busy machine better than seconds; the load is the machine's average over five minutes. How each is
measured is said at the top of its file and by its `--help`.
"""


def read_results() -> dict[str, Any]:
    """Return what ``bench/results.json`` has, by benchmark."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def page_of(results: Mapping[str, Any]) -> str:
    """Return the page of these results."""
    parts = [HEAD, *("\n".join(_section(bench, results.get(bench))) + "\n" for bench in sorted(TITLES))]
    return "\n".join(parts)


def _section(bench: str, measured: Mapping[str, Any] | None) -> Iterator[str]:
    title, file = TITLES[bench]
    yield f"## {title}\n"
    if measured is None:
        yield f"`{file}` has no figures yet."
        return
    yield (
        f"`{file}` at commit {measured['commit']} on {measured['date']}, {measured['cores']} cores, "
        f"{_load(measured['load'])}:\n"
    )
    yield "| | | target |"
    yield "|---|---|---|"
    for each in measured["figures"]:
        yield f"| {each['name']} | {each['value']:g} {each['unit']} | {_target(each)} |"
    if note := measured.get("note"):
        yield f"\n{note}"


def _load(load: float | None) -> str:
    return "load not recorded" if load is None else f"load {load:g}"


def _target(figure: Mapping[str, Any]) -> str:
    if figure["target"] is None:
        return ""
    return f"{figure['target']:g}" + (", **missed**" if figure["value"] > figure["target"] else "")


if __name__ == "__main__":
    PAGE.write_text(page_of(read_results()))
    sys.exit(0)
