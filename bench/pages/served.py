"""The pages and their API in a process of their own, as Airflow's api-server has them, without its login."""

import sys
from pathlib import Path

import uvicorn

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "plugins")]

from modelway.lineage.store import open_lineage  # noqa: E402
from modelway.ui.app import create_app  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.routing import Mount  # noqa: E402


def main() -> None:
    """Serve ``python served.py URL PORT`` to whoever may read every DAG, as an admin does."""
    url, port = sys.argv[1], int(sys.argv[2])
    opened = open_lineage(url, read_only=True)
    assert opened is not None
    dags = frozenset(dag for model in opened.models() for dag in model.dags)
    app = Starlette(routes=[Mount("/modelway", create_app(store_url=lambda: url, readable_dags=lambda: dags))])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
