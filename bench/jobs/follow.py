"""Follows jobs with one trigger each in one process, as a triggerer does, and counts what that costs.

``python bench/jobs/follow.py HANDLES HOME``: HANDLES is a JSON file with the jobs' handles, on one backend. The
connection to Google Cloud, where they are on Vertex AI, is the JSON in ``BENCH_GOOGLE_ENDPOINTS``. At each line of its
standard input it prints, as JSON, its CPU seconds, the requests it has sent to the API server, the lines
that it logged and the triggers that have fired, since it started.
"""

import asyncio
import json
import os
import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import urllib3
from modelway.backends.base import load_backend
from modelway.triggers import job as triggers

#: Airflow writes its own log to the standard output
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

requests: Counter[str] = Counter()
fired: Counter[str] = Counter()
lines = 0


def count_requests() -> None:
    """Count every request that leaves this process, by its method and whether it is a watch."""
    send = urllib3.connectionpool.HTTPConnectionPool.urlopen

    def counted(self: Any, method: str, url: str, *args: Any, **more: Any) -> Any:
        what = "WATCH" if "watch=True" in url else method
        requests[f"{what} {url.partition('?')[0].rpartition('/')[2]}"] += 1
        return send(self, method, url, *args, **more)

    urllib3.connectionpool.HTTPConnectionPool.urlopen = counted  # type: ignore[method-assign]


class Counting:
    """Stands for the task's log."""

    def info(self, text: str, *args: Any) -> None:
        """Count the line."""
        global lines
        lines += 1


async def follow(handle: dict[str, Any], home: str) -> None:
    """Run one trigger to its end."""
    trigger = triggers.JobTrigger(handle=handle, home=home, follower=handle["name"])
    # Made again from its own data, as a triggerer does.
    path, data = trigger.serialize()
    assert path.endswith(".JobTrigger")
    async for event in triggers.JobTrigger(**data).run():
        fired[event.payload["status"]["state"]] += 1
        break


async def report_usage() -> None:
    """Answer each line of the standard input."""
    while await asyncio.to_thread(sys.stdin.readline):
        used = resource.getrusage(resource.RUSAGE_SELF)
        usage = {"cpu": used.ru_utime + used.ru_stime, "requests": dict(requests), "fired": dict(fired)}
        usage |= {"lines": lines, "memory": used.ru_maxrss * 1024}
        answers.write(f"{json.dumps(usage)}\n")
        answers.flush()


def client_of(name: str) -> Any:
    """Return the client of a backend that does not find its own."""
    if name != "vertex":
        return None
    from modelway.platforms.google.connection import GoogleConnection, Source

    endpoints = json.loads(os.environ["BENCH_GOOGLE_ENDPOINTS"])
    return GoogleConnection(source=Source.ANONYMOUS, project="p1", endpoints=endpoints)


async def main(handles: Path, home: str) -> None:
    """Follow all jobs and answer until the standard input ends."""
    of = json.loads(handles.read_text())[0]["backend"]
    backend = load_backend(of, home=Path(home), client=client_of(of))
    # There is no Airflow here that has the connection.
    triggers.backend_from_airflow = lambda name, home: backend  # type: ignore[assignment]
    count_requests()
    triggers.JobTrigger.log = Counting()  # type: ignore[assignment]
    tasks = [asyncio.create_task(follow(handle, home)) for handle in json.loads(handles.read_text())]
    await report_usage()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
