"""The health check of a Celery worker's container: whether it is connected to its queue."""

import socket
import subprocess
import sys
from pathlib import Path

HEALTH = Path(__file__).parents[2] / "include" / "images" / "airflow" / "health.py"


def worker_health(port: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-S", str(HEALTH), "worker"],
        env={"AIRFLOW__CELERY__BROKER_URL": f"redis://:secret@127.0.0.1:{port}/0"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.strip()


def test_a_worker_is_healthy_while_it_is_connected_to_its_queue() -> None:
    with socket.create_server(("127.0.0.1", 0)) as queue:
        port = queue.getsockname()[1]
        # A queue that answers is not enough: a worker that cannot start has no connection.
        assert worker_health(port) == (1, f"the worker is not connected to its queue at 127.0.0.1:{port}")
        with socket.create_connection(("127.0.0.1", port)):
            assert worker_health(port) == (0, "")
