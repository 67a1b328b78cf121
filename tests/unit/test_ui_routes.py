"""Every route of the pages: none answers without a login or shows what one may not read, and editors alone write.

A new route is listed here with a path of its own, or this fails.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import open_lineage
from modelway.ui.static import static_files, static_path
from sqlalchemy import Connection, Engine, event
from starlette.testclient import TestClient

from tests.lineage_samples import digest, make_record
from tests.mounted_pages import MountedPages

#: what only those may read who may read the DAG "secret"
SECRET = "only for its owners"
CONTENT = digest("model" + "hidden-run")
HIDDEN_COMMIT = "c0ffee" + "1" * 34
#: a path of each route about the model "secret", and the status for somebody who may read other DAGs alone: 404 where
#: it names what does not exist for them, 200 where it lists, without it
PATHS = {
    "/": ("/", 200),
    "/models": ("/models?q=secret", 200),
    "/models/{model:path}": ("/models/secret", 404),
    "/models/{model:path}/compare": ("/models/secret/compare?a=1&b=1", 404),
    "/models/{model:path}/drift": ("/models/secret/drift", 404),
    "/models/{model:path}/parallel": ("/models/secret/parallel", 404),
    "/models/{model:path}/side-by-side": ("/models/secret/side-by-side?v=1&v=2", 404),
    "/models/{model:path}/versions/{version}": ("/models/secret/versions/1", 404),
    "/models/{model:path}/versions/{version}/lineage": ("/models/secret/versions/1/lineage", 404),
    "/models/{model:path}/was": ("/models/secret/was?wanted=latest&at=2999-01-01", 404),
    "/endpoints/{endpoint:path}": ("/endpoints/secret", 404),
    "/of-dag": ("/of-dag?dag=secret", 200),
    "/of-run": ("/of-run?dag=secret&run=hidden-run", 200),
    "/serving": ("/serving", 200),
    "/who-has": (f"/who-has?content={CONTENT}", 200),
    "/static/{name}": (f"/{static_path('style.css')}", 200),
    "/api/openapi.json": ("/api/openapi.json", 200),
    "/api/account": ("/api/account?wanted=secret&model=secret", 404),
    "/api/endpoints/{endpoint:path}": ("/api/endpoints/secret", 404),
    "/api/health": ("/api/health?q=secret", 200),
    "/api/lineage": ("/api/lineage?node=version:secret@1&direction=up", 404),
    "/api/models": ("/api/models", 200),
    "/api/models/{model:path}": ("/api/models/secret", 404),
    "/api/models/{model:path}/versions/{version}/archive": ("/api/models/secret/versions/1/archive", 404),
    "/api/models/{model:path}/versions/{version}/file": (
        "/api/models/secret/versions/1/file?path=outputs/meta.yml",
        404,
    ),
    "/api/models/{model:path}/compare": ("/api/models/secret/compare?a=1&b=1", 404),
    "/api/models/{model:path}/drift": ("/api/models/secret/drift", 404),
    "/api/models/{model:path}/versions/{version}": ("/api/models/secret/versions/1", 404),
    "/api/models/{model:path}/versions/{version}/lineage": ("/api/models/secret/versions/1/lineage", 404),
    "/api/models/{model:path}/was": ("/api/models/secret/was?wanted=latest&at=2999-01-01", 404),
    "/api/serving": ("/api/serving", 200),
    "/api/who-has": (f"/api/who-has?content={CONTENT}", 200),
}
#: the routes that write, with a body that they accept
ACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/api/endpoints/{endpoint:path}/rollout": (
        "/api/endpoints/secret/rollout",
        {"run": "secret/running", "step": 0, "act": "hold", "reason": "to see"},
    ),
    "/api/models/{model:path}/versions/{version}/note": (
        "/api/models/secret/versions/1/note",
        {"description": "another", "tags": []},
    ),
}
#: whose files are not stored in this test
DOWNLOADS = ("/archive", "/file")


@pytest.fixture(scope="module")
def client(pages: MountedPages, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Nobody yet, before a lineage with the models digits and secret."""
    url = f"sqlite:///{tmp_path_factory.mktemp('lineage') / 'lineage.db'}"
    store = open_lineage(url)
    store.register(make_record("r"))
    for run in ("hidden-run", "hidden-run-2"):
        hidden = make_record(run, model="secret", description=SECRET)
        # It begins like that of digits, so that a part of it names both.
        store.register(replace(hidden, run=replace(hidden.run, commit=HIDDEN_COMMIT)))
    store.record_weights(endpoint="secret", model="secret", weights={1: 100})
    rollout = RolloutRecord(
        endpoint="secret", run_id="secret/hidden-run", model="secret", version=1, state="done", step=0
    )
    store.save_rollout(rollout)
    plan = [{"weight": weight, "hold_seconds": 60.0, "requests": 0} for weight in (10, 100)]
    running = {"run_id": "secret/running", "state": "running", "detail": {"stable": None, "plan": plan, "since": 0.0}}
    store.save_rollout(replace(rollout, **running))
    return pages.client(url, headers={})


def test_every_route_is_listed_here(pages: MountedPages) -> None:
    # A Mount, or a Route of Starlette's, would be outside the dependencies: open to everyone.
    assert [route for route in pages.routes if not isinstance(route, APIRoute)] == []
    found = [route for route in pages.routes if isinstance(route, APIRoute)]
    assert sorted(route.path for route in found) == sorted([*PATHS, *ACTS]), (
        "a route is missing in this file, or is gone"
    )
    for route in found:
        assert route.methods == {"POST" if route.path in ACTS else "GET"}, route.path


@pytest.mark.parametrize("route", PATHS)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_route_answers_401_to_whoever_is_not_signed_in(client: TestClient, route: str, accept: str) -> None:
    answer = client.get(f"/modelway{PATHS[route][0]}", headers={"accept": accept}, follow_redirects=False)
    assert answer.status_code == 401
    assert SECRET not in answer.text


@pytest.mark.parametrize("route", PATHS)
def test_a_view_reads_the_lineage_over_one_connection(client: TestClient, route: str) -> None:
    owner = {"reader": "digits,secret", "accept": "text/html"}
    client.get("/modelway/models", headers=owner)
    begun: list[Connection] = []

    def begin(connection: Connection) -> None:
        begun.append(connection)

    event.listen(Engine, "begin", begin)
    try:
        client.get(f"/modelway{PATHS[route][0]}", headers=owner, follow_redirects=False)
    finally:
        event.remove(Engine, "begin", begin)
    assert len(begun) <= 1


@pytest.mark.parametrize("route", PATHS)
def test_what_one_may_not_read_does_not_exist(client: TestClient, route: str) -> None:
    path, status = PATHS[route]
    for reader in ("digits", "nothing"):
        answer = client.get(f"/modelway{path}", headers={"reader": reader})
        # Of a list of its own nothing is left.
        assert answer.status_code == status, answer.text
        for text in (SECRET, "hidden-run-2", "secret v1"):
            assert text not in answer.text


@pytest.mark.parametrize("route", PATHS)
def test_whoever_may_read_the_dag_reads(client: TestClient, route: str) -> None:
    answer = client.get(f"/modelway{PATHS[route][0]}", headers={"reader": "secret"})
    if route.endswith(DOWNLOADS):
        assert (answer.status_code, "not below the artifact root" in answer.text) == (503, True), answer.text
    else:
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("route", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_route_that_reads_does_not_act(client: TestClient, route: str, method: str) -> None:
    answer = client.request(method, f"/modelway{PATHS[route][0]}", headers={"reader": "secret"})
    assert answer.status_code == 405


@pytest.mark.parametrize("route", ACTS)
def test_an_act_is_for_editors_alone(client: TestClient, route: str) -> None:
    path, body = ACTS[route]

    def status(**headers: str) -> int:
        return client.post(f"/modelway{path}", json=body, headers=headers).status_code

    assert status() == 401
    assert status(reader="digits", writer="mia:digits") == 404
    assert status(reader="secret") == 403
    assert status(reader="secret", writer="mia:digits") == 403
    form = client.post(f"/modelway{path}", content=b"a=1", headers={"reader": "secret", "writer": "mia:secret"})
    assert form.status_code == 415
    elsewhere = {"reader": "secret", "writer": "mia:secret", "sec-fetch-site": "cross-site"}
    assert status(**elsewhere) == 403
    assert status(reader="secret", writer="mia:secret") == 200


@pytest.mark.parametrize(
    ("node", "readers"),
    [
        ("endpoint:secret", ["secret"]),
        ("run:secret/hidden-run", ["secret"]),
        (f"file:{CONTENT}", ["secret"]),
        (f"code:{digest('code')}", ["secret", "digits"]),
        ("commit:c0ffee", ["secret", "digits"]),
        (f"commit:{HIDDEN_COMMIT[:8]}", ["secret"]),
        # What ran in an image is an environment.
        ("image:sha256:" + "0" * 64, ["secret", "digits"]),
        ("model:secret", []),
        ("secret", []),
        ("", []),
    ],
)
def test_what_is_next_to_a_thing_is_read_by_whoever_may_read_a_part(
    client: TestClient, node: str, readers: list[str]
) -> None:
    for reader in ("secret", "digits", "nothing"):
        query = {"node": node, "direction": "up"}
        answer = client.get("/modelway/api/lineage", params=query, headers={"reader": reader})
        assert answer.status_code == (200 if reader in readers else 404), (reader, answer.text)
        if reader != "secret":
            assert "hidden-run" not in answer.text.replace(node, "")
            assert HIDDEN_COMMIT not in answer.text


def test_the_neighbours_of_a_thing_come_by_parts_within_limits(client: TestClient) -> None:
    def near(**query: str | int) -> dict[str, Any]:
        given = {"node": f"code:{digest('code')}", "direction": "down"} | query
        answer = client.get("/modelway/api/lineage", params=given, headers={"reader": "secret,digits"})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    first, rest = near(most=2), near(most=2, skip=2)
    assert [node["name"] for node in first["nodes"][1:]] == ["secret/hidden-run-2", "secret/hidden-run"]
    assert (first["is_whole"], rest["is_whole"]) == (False, True)
    assert [node["name"] for node in rest["nodes"][1:]] == ["digits/r"]
    assert near(skip=3)["nodes"][1:] == []
    for wrong in ({"most": 501}, {"most": 0}, {"skip": -1}, {"direction": "aside"}):
        given = {"node": f"code:{digest('code')}", "direction": "down", **wrong}
        assert client.get("/modelway/api/lineage", params=given, headers={"reader": "secret"}).status_code == 422


def test_static_files_are_cached_by_browsers_and_small(client: TestClient) -> None:
    sizes = {}
    for name, file in static_files().items():
        answer = client.get(f"/modelway/static/{file.name}", headers={"reader": "digits"})
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-type"].startswith(("text/css", "text/javascript"))
        assert answer.content == file.body
        sizes[name] = len(file.packed)
    assert sum(sizes.values()) <= 300_000, sizes
    plain = client.get(
        f"/modelway/{static_path('style.css')}", headers={"reader": "digits", "accept-encoding": "identity"}
    )
    assert "content-encoding" not in plain.headers
    assert client.get("/modelway/static/style.0123456789abcdef.css", headers={"reader": "digits"}).status_code == 404
    assert client.get("/modelway/static/..%2Fbase.html", headers={"reader": "digits"}).status_code == 404


def test_a_page_is_sent_compressed(client: TestClient) -> None:
    answer = client.get("/modelway/models/digits/versions/1", headers={"reader": "digits", "accept": "text/html"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["vary"].lower()


def test_every_file_of_the_pages_is_part_of_the_package() -> None:
    assert {"style.css", "frame.js", "times.js", "actions.js"} <= static_files().keys()
    assert all(Path(file.name).suffix in (".css", ".js") for file in static_files().values())
