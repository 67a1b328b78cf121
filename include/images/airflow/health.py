"""``python3 -S health.py PART``: whether a service of docker-compose.yaml works; one line says what is wrong.

Airflow's own `airflow jobs check` takes seconds of CPU each time. Here the API server is asked, which has the last
heartbeat of each part. Standard library alone.
"""

import glob
import json
import os
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

_API = "http://api-server:8080/api/v2/monitor/health"
_SECONDS = 8


def api_server() -> str:
    """Return what is wrong with the API server here; empty where nothing is."""
    _read("http://127.0.0.1:8080/api/v2/version")
    return ""


def part(name: str) -> str:
    """Return what is wrong with a part of Airflow that has heartbeats; the API server's own end is not its fault."""
    try:
        health = json.loads(_read(_API)).get(name) or {}
    except (OSError, ValueError) as error:
        print(f"the API server does not answer ({error}): nothing is known of the {name}")
        return ""
    if health.get("status") == "healthy":
        return ""
    beat = next((value for key, value in health.items() if key.startswith("latest")), None)
    return f"the {name} is {health.get('status')}: its last heartbeat was at {beat}"


def worker() -> str:
    """Return what is wrong with the Celery worker of this container: nothing while it is connected to its queue."""
    broker = urlsplit(os.environ["AIRFLOW__CELERY__BROKER_URL"])
    port = f":{broker.port or 6379:04X}"
    for path in glob.glob("/proc/net/tcp*"):
        with open(path) as file:
            # the local address, the other end, and the state, of which 01 is a connection that is established
            if any(line.split()[2].endswith(port) and line.split()[3] == "01" for line in file.readlines()[1:]):
                return ""
    return f"the worker is not connected to its queue at {broker.hostname}:{broker.port or 6379}"


def gateway() -> str:
    """Return which endpoints of this host do not answer."""
    wrong = []
    for path in glob.glob(os.path.join(os.environ["MODELWAY_HOME"], "endpoints", "*", "state.json")):
        with open(path) as file:
            state = json.load(file)
        if state.get("stopped") or not state.get("servers") or state.get("host") != os.environ["MODELWAY_HOST"]:
            continue
        try:
            _read(f"http://127.0.0.1:{state['gateway']['port']}/v2/health/live")
        except OSError as error:
            wrong.append(f"the endpoint {state['name']} does not answer: {error}")
    return "; ".join(wrong) or worker()


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
        return bytes(answer.read())


def main(name: str) -> int:
    """Print what is wrong with a part, and return the exit status."""
    checks = {"api-server": api_server, "worker": worker, "gateway": gateway}
    try:
        wrong = checks[name]() if name in checks else part(name)
    except OSError as error:
        wrong = f"the {name} does not work: {error}"
    if wrong:
        print(wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
