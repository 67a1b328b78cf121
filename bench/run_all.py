"""Run the benchmarks and write their figures: what ``make bench`` does.

``python bench/run_all.py [--only parse loop]`` runs them one after another, writes ``bench/results.json`` (figures,
targets, commit, cores and load of the machine) and ``docs/benchmarks.md``. A benchmark that is left out, skipped or
failed keeps the figures of its last run. The exit status is 1 where a figure is above its target or a benchmark failed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from figures import Figure, figures_of
from page import PAGE, RESULTS, page_of, read_results

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
#: what each is run with, the shortest first
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "bytes": ("bytes/run.py",),
    "cost": ("serving/cost.py",),
    "counting": ("serving/counting.py",),
    "rollout": ("rollout/run.py",),
    "monitor": ("monitor/run.py",),
    "route": ("route/run.py",),
    "serve": ("serving/compare.py",),
    "serving": ("serving/abuse.py",),
    "image": ("image/run.py",),
    "train": ("train/run.py",),
    "jobs": ("jobs/run.py",),
    "vertex": ("jobs/vertex.py",),
    "google": ("jobs/beside_google.py",),
    "loop": ("loop/run.py",),
    "parse": ("parse/run.py",),
    "search": ("search/run.py",),
    "fleet": ("fleet/run.py",),
    "evaluate": ("evaluate/run.py",),
    "pages": ("pages/run.py",),
    "lineage": ("lineage/run.py", "--many", "100000"),
}


def main() -> int:
    """Run, write, print what got worse, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    args = parser.parse_args()
    results = read_results()
    failed = False
    for bench in args.only:
        print(f"\n===== {bench}", flush=True)
        last = results.get(bench)
        document = skipped(bench) or run(bench)
        if "skipped" in document or "failed" in document:
            failed |= "failed" in document
            print(f"{bench}: {document.get('skipped') or document['failed']}; {last_figures(last)}")
            continue
        found = figures_of(bench, document)
        failed |= any(figure.is_missed for figure in found)
        for line in missed_lines(bench, found, last):
            print(line)
        results[bench] = measured(found)
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=2) + "\n")
    PAGE.write_text(page_of(results))
    return 1 if failed else 0


def skipped(bench: str) -> dict[str, str]:
    """Return why a benchmark cannot run here, if so."""
    if bench == "jobs" and not os.environ.get("KUBECONFIG") and not (Path.home() / ".kube" / "config").exists():
        return {"skipped": "there is no cluster (KUBECONFIG)"}
    if bench == "google" and not (REPOSITORY / ".venv-google" / "bin" / "python").exists():
        return {"skipped": "there is no .venv-google (bench/jobs/beside_google.py)"}
    return {}


def run(bench: str) -> dict[str, Any]:
    """Run a benchmark; return what it printed at last, or how it failed."""
    file, *words = COMMANDS[bench]
    if bench in ("lineage", "pages") and not (REPOSITORY / ".venv-mlflow" / "bin" / "python").exists():
        words.append("--without-mlflow")
    if bench == "monitor" and (peers := REPOSITORY / ".venv-monitor" / "bin" / "python").exists():
        words += ["--peers", str(peers)]
    if bench == "train" and shutil.which("nvidia-smi") is None:
        # Without a GPU its figures say only that both train alike, and are there in minutes.
        words += ["--device", "cpu", "--small", "--steps", "200", "--pairs", "3"]
    done = subprocess.run([sys.executable, str(HERE / file), *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    lines = done.stdout.splitlines()
    # Status 1 is also that of a target that is missed: then there is a document all the same.
    if done.returncode not in (0, 1) or not lines or not lines[-1].startswith("{"):
        return {"failed": f"it failed with exit status {done.returncode}"}
    document: dict[str, Any] = json.loads(lines[-1])
    return document


def missed_lines(bench: str, found: list[Figure], last: Mapping[str, Any] | None) -> list[str]:
    """Return a line for each figure above its target, with the last figure and the commit that it is of."""
    before = {(each["name"], each["unit"]): each["value"] for each in last["figures"]} if last else {}
    lines = []
    for figure in found:
        if figure.is_missed:
            value = before.get((figure.name, figure.unit))
            was = "no figure before" if value is None or last is None else f"{value:g} at commit {last['commit']}"
            lines.append(
                f"missed: {bench}: {figure.name}: {figure.value:g} {figure.unit}, target {figure.target:g}; {was}"
            )
    return lines


def last_figures(last: Mapping[str, Any] | None) -> str:
    """Return which figures stay."""
    return f"its figures stay those of commit {last['commit']}" if last else "it has no figures yet"


def measured(found: list[Figure]) -> dict[str, Any]:
    """Return the figures with where and of what they were measured."""
    return {
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),
        "figures": [figure.to_dict() for figure in found],
    }


def commit() -> str:
    """Return the commit that is measured, with a ``+`` where files were changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    ours = {str(path.relative_to(REPOSITORY)) for path in (RESULTS, PAGE)}
    changed = {line[3:] for line in git("status", "--porcelain", "--untracked-files=no").splitlines()}
    return git("rev-parse", "--short", "HEAD").strip() + ("+" if changed - ours else "")


if __name__ == "__main__":
    sys.exit(main())
