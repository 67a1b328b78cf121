"""The pages of a lineage with many versions and models, beside plain SQL of the same rows and MLflow's search.

``python bench/pages/run.py [--versions 10000] [--models 1000] [--rounds 60]`` prints a table, then all as JSON. All are
on one PostgreSQL of its own and take turns, request by request; a number is the 95th percentile in milliseconds:

- ``modelway``: the JSON API of the pages over HTTP, in a process of its own
- ``sql``: psycopg with sensible statements that read the same rows, in this process
- ``mlflow``: the REST API that lists versions, runs and models of an MLflow server, over HTTP as well, in an
  environment that tests/system/install_mlflow.sh makes

MLflow's list of versions has no metrics, of which ours sends 2,000: plain SQL of ours alone takes a fifth of MLflow's
time, so a tenth cannot be reached there. Its list of runs has them.

``first paint`` is what headless Chromium says of a page that it has not seen before (first contentful paint, from the
start of the navigation), the median of ``--paints`` loads; it needs chromium and chromedriver.
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY / "plugins"), str(REPOSITORY), str(REPOSITORY / "tests" / "system")]
sys.path.append(str(HERE.parent / "lineage"))

from mlflow_lists import mlflow_lists  # noqa: E402
from modelway.lineage.store import open_lineage  # noqa: E402
from plain_sql import PlainSql  # noqa: E402
from turns import percentile, rotated  # noqa: E402
from workload import MODEL  # noqa: E402

from tests.postgres_server import PostgresServer, postgres_server  # noqa: E402

#: how long the server of the pages may take to start
PATIENCE_SECONDS = 120
#: of lists: neither SQL nor MLflow compresses its answers; pages are compressed
UNCOMPRESSED = {"accept-encoding": "identity"}
Work = Callable[[], Any]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--versions", type=int, default=10_000, help="versions of one model")
    parser.add_argument("--models", type=int, default=1_000, help="models beside it")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--paints", type=int, default=5, help="loads of each page; 0 leaves the browser out")
    parser.add_argument("--mlflow", type=Path, default=REPOSITORY / ".venv-mlflow", help="its environment's folder")
    parser.add_argument("--without-mlflow", action="store_true")
    args = parser.parse_args()
    results: dict[str, Any] = {"versions": args.versions, "models": args.models}
    with postgres_server() as server, ExitStack() as stack:
        url = filled(server, args)
        base = stack.enter_context(pages(url))
        client = stack.enter_context(httpx.Client(timeout=120, trust_env=False, headers=UNCOMPRESSED))
        work = ours(client, base, PlainSql(url))
        if not args.without_mlflow:
            lists = mlflow_lists(server, client, mlflow=args.mlflow, versions=args.versions, models=args.models)
            for name, (beside, each) in stack.enter_context(lists).items():
                work[name] = {"mlflow": each, "modelway": work[beside]["modelway"]}
        results["p95_ms"], results["p50_ms"] = measured(work, rounds=args.rounds)
        results["views_ms"] = views(client, base, rounds=args.rounds)
        if args.paints and shutil.which("chromium") and shutil.which("chromedriver"):
            results["first_paint_ms"] = painted(base, loads=args.paints)
    show(results)
    print(json.dumps(results))
    return 0


def filled(server: PostgresServer, args: argparse.Namespace) -> str:
    """Return the URL of a lineage with the models."""
    from pages_fill import fill_ours

    url = server.new_database()
    open_lineage(url)
    began = time.monotonic()
    fill_ours(url, name=MODEL, versions=args.versions, models=args.models)
    print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
    return url


@contextmanager
def pages(url: str) -> Iterator[str]:
    """The URL of a server of the pages."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}/modelway"
    serving = subprocess.Popen([sys.executable, str(HERE / "served.py"), url, str(port)])
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                httpx.get(f"{base}/api/models/{MODEL}", trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                if time.monotonic() > until or serving.poll() is not None:
                    raise SystemExit("the server of the pages does not start") from None
                time.sleep(0.1)
        yield base
    finally:
        serving.terminate()
        serving.wait()


def ours(client: httpx.Client, base: str, sql: PlainSql) -> dict[str, dict[str, Work]]:
    """Return the lists of the API and of plain SQL; both answer the same, or this ends."""

    def versions() -> int:
        found = client.get(f"{base}/api/models/{MODEL}").raise_for_status().json()["versions"]
        return int(found[0]["number"])

    def models() -> int:
        return len(client.get(f"{base}/api/models").raise_for_status().json()["models"])

    work: dict[str, dict[str, Work]] = {
        "versions": {"modelway": versions, "sql": lambda: sql.versions(MODEL)},
        "models": {"modelway": models, "sql": sql.models},
    }
    for name, contestants in work.items():
        answers = {who: each() for who, each in contestants.items()}
        if len(set(answers.values())) > 1:
            raise SystemExit(f"the list of {name} differs: {answers}")
    return work


def measured(work: Mapping[str, Mapping[str, Work]], *, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the 95th percentile and the median of each list and contestant, in milliseconds, who take turns."""
    samples: dict[str, dict[str, list[float]]] = {name: {who: [] for who in each} for name, each in work.items()}
    for place in range(rounds + 3):
        for name, contestants in work.items():
            for who, each in rotated(list(contestants.items()), place):
                milliseconds = timed(each)
                # The first of each open connections and compile what is cached.
                if place >= 3:
                    samples[name][who].append(milliseconds)
    high, middle = (
        {name: {who: round(of(times), 2) for who, times in each.items()} for name, each in samples.items()}
        for of in (percentile, statistics.median)
    )
    return high, middle


def timed(work: Work) -> float:
    """Return how many milliseconds a call took."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def views(client: httpx.Client, base: str, *, rounds: int) -> dict[str, Any]:
    """Return the median time of the server for each page, and the bytes that it sends."""
    found: dict[str, Any] = {}
    for name, path in paths().items():
        times = [timed(lambda url=f"{base}{path}": page_of(client, url)) for _ in range(max(3, rounds // 4))]  # type: ignore[misc]
        sent = page_of(client, f"{base}{path}")
        found[name] = {"p50": round(statistics.median(times), 1), "bytes": int(sent.num_bytes_downloaded)}
    return found


def paths() -> dict[str, str]:
    """Return the pages that are measured."""
    return {
        "all models": "/models",
        "a search": "/models?q=other-0500",
        "one model": f"/models/{MODEL}",
        "one model, old versions": f"/models/{MODEL}?before=60",
        "a version": f"/models/{MODEL}/versions/latest",
        "across what differs": f"/models/{MODEL}/parallel",
        "what serves": "/serving",
    }


def page_of(client: httpx.Client, url: str) -> httpx.Response:
    """Return a page that is no error."""
    return client.get(url, headers={"accept": "text/html", "accept-encoding": "gzip"}).raise_for_status()


def painted(base: str, *, loads: int) -> dict[str, float]:
    """Return the median of the first contentful paint of each page, which the browser has not seen before."""
    from browser import open_browser
    from selenium.webdriver.support.ui import WebDriverWait

    paint = "return performance.getEntriesByName('first-contentful-paint').map((each) => each.startTime)[0] ?? null"
    found: dict[str, float] = {}
    with open_browser() as browser:
        browser.execute_cdp_cmd("Network.enable", {})
        browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
        for name, path in paths().items():
            times = []
            for _ in range(loads):
                browser.get(f"{base}{path}")
                times.append(WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(paint)))
            found[name] = round(statistics.median(times), 1)
    return found


def show(results: Mapping[str, Any]) -> None:
    """Print what was measured."""
    print(f"\n{'p95, ms':<14}{'modelway':>10}{'sql':>10}{'mlflow':>10}")
    for name, row in results["p95_ms"].items():
        print(f"{name:<14}" + "".join(f"{row.get(who, float('nan')):>10.2f}" for who in ("modelway", "sql", "mlflow")))
    print(f"\n{'page':<26}{'server, ms':>12}{'bytes':>10}{'paint, ms':>12}")
    for name, row in results["views_ms"].items():
        paint = results.get("first_paint_ms", {}).get(name, float("nan"))
        print(f"{name:<26}{row['p50']:>12.1f}{row['bytes']:>10}{paint:>12.1f}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
