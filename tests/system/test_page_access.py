"""The pages on a real Airflow api-server: its login guards them, its navigation shows them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from browser import WAIT_SECONDS, console_errors, log_in, open_browser, wait
from modelway.lineage.records.version import RolloutRecord, RunRecord, VersionRecord
from modelway.lineage.store import open_lineage
from modelway.localairflow.processes import COMMAND
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

from tests.airflow_template import with_database
from tests.page_samples import rich_record
from tests.quick_python import COMMAND as PYTHON

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
DAG = """\
from airflow.sdk import DAG
from modelway.operators.find import FindVersionOperator
from modelway.operators.promote import PromoteModelOperator

with DAG("digits", schedule=None):
    found = FindVersionOperator(task_id="find", model="digits").output
    PromoteModelOperator(task_id="promote", version=found, deployment=found)
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(home: Path, port: int) -> dict[str, str]:
    settings = {
        "API__PORT": port,
        "API__HOST": "127.0.0.1",
        "API__BASE_URL": f"http://127.0.0.1:{port}/team",
        "API__WORKERS": 1,
        "API_AUTH__JWT_SECRET": "a secret of this test alone, long enough for a signature",
        "CORE__DAGS_FOLDER": home / "dags",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__PLUGINS_FOLDER": PLUGINS,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin,vic:viewer",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
    }
    variables = {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
    # As installed by `pip install`, the library is on the path; in a checkout Airflow adds plugins/ by itself.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | variables | {"AIRFLOW_HOME": str(home), "MODELWAY_HOME": str(home / "modelway")}


def _register(home: Path, **dags: str) -> None:
    """Register a version of each model by a run of the DAG given for it; of digits two, which served in turn."""
    store = open_lineage(f"sqlite:///{home}/modelway/lineage.db")
    for model, dag in dags.items():
        record = rich_record("manual__1") if model == "digits" else _record(model, dag, "manual__1")
        if model == "digits":
            record = replace(record, run=replace(record.run, repository="https://gitlab.invalid/team/digits.git"))
        assert store.register(record) == 1
    assert store.register(rich_record("manual__2", metrics={"loss": 0.0288, "accuracy": 0.9867})) == 2
    rollout = RolloutRecord(endpoint="digits", run_id="digits/r1", model="digits", version=1, state="done")
    for version in (1, 2):
        store.save_rollout(replace(rollout, run_id=f"digits/r{version}", version=version, detail={"stable": None}))
        store.record_weights(endpoint="digits", model="digits", weights={version: 100})
    store.record_weights(endpoint="letters", model="letters", weights={1: 100})
    about = {"endpoint": "letters", "model": "letters", "run_id": "digits/of-rollout"}
    plan = [{"weight": weight, "hold_seconds": 600.0, "requests": 0} for weight in (10, 50, 100)]
    detail = {"stable": None, "plan": plan, "since": time.time(), "target": "local"}
    store.save_rollout(replace(rollout, **about, state="running", step=0, detail=detail))


def _record(model: str, dag: str, run_id: str) -> VersionRecord:
    digest = "sha256:" + "0" * 64
    return VersionRecord(
        model=model,
        run=RunRecord(dag_id=dag, run_id=run_id),
        archive_uri="file:///a.zip",
        archive_digest=digest,
        archive_size=1,
        model_digest=digest,
        checkpoint="c-1",
        checkpoint_digest=digest,
        metrics={"loss": 0.25},
    )


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an api-server whose only DAG is ``digits``, which made two models; another DAG made ``secret``."""
    port = _free_port()
    home = with_database(tmp_path_factory.mktemp("pages")) / "airflow"
    (home / "dags").mkdir()
    (home / "dags" / "digits.py").write_text(DAG)
    (home / "passwords.json").write_text(json.dumps({"ada": "ada-s", "vic": "vic-s"}))
    _register(home, digits="digits", letters="digits", secret="elsewhere")
    environment, command = _environment(home, port), [sys.executable, str(COMMAND), "airflow"]
    subprocess.run([*command, "dags", "reserialize"], env=environment, check=True, capture_output=True, timeout=400)
    url = f"http://127.0.0.1:{port}/team"
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "api-server"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait(url, server, home / "server.log")
            yield url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(60)
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _wait(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/api/v2/monitor/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"the api-server did not come up:\n{log.read_text()[-3000:]}")


def _token(url: str, user: str) -> str:
    answer = httpx.post(f"{url}/auth/token", json={"username": user, "password": f"{user}-s"}, timeout=60)
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def _get(url: str, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{url}{path}", headers=headers, timeout=60)


PATHS = ["/models", "/models/digits", "/models/digits/versions/1", "/api/models", "/api/models/digits/versions/1"]


def test_nobody_gets_in_without_airflows_login(airflow: str) -> None:
    for path in PATHS:
        assert _get(airflow, f"/modelway{path}").status_code == 401
        assert _get(airflow, f"/modelway{path}", authorization="Bearer nonsense").status_code in (401, 403)
    page = _get(airflow, "/modelway/models", accept="text/html")
    assert page.status_code == 401
    assert "/team/api/v2/auth/login?next=/team/modelway/models" in page.text


@pytest.mark.parametrize("user", ["ada", "vic"])
def test_who_is_signed_in_reads_the_models_of_their_dags(airflow: str, user: str) -> None:
    token = _token(airflow, user)
    for path in PATHS:
        answer = _get(airflow, f"/modelway{path}", authorization=f"Bearer {token}")
        assert answer.status_code == 200, path
        assert "digits" in answer.text
        assert "secret" not in answer.text
    by_cookie = _get(airflow, "/modelway/models", cookie=f"_token={token}")
    assert by_cookie.status_code == 200
    models = _get(airflow, "/modelway/api/models", authorization=f"Bearer {token}").json()["models"]
    assert [(model["name"], model["dags"]) for model in models] == [("digits", ["digits"]), ("letters", ["digits"])]
    assert _get(airflow, "/modelway/models/secret", authorization=f"Bearer {token}").status_code == 404


def test_the_page_is_in_airflows_navigation(airflow: str) -> None:
    headers = {"authorization": f"Bearer {_token(airflow, 'ada')}"}
    plugins = _get(airflow, "/api/v2/plugins", **headers).json()["plugins"]
    (ours,) = [plugin for plugin in plugins if plugin["name"] == "modelway"]
    view, *tabs = ours["external_views"]
    assert (view["name"], view["destination"], view["url_route"]) == ("Models", "nav", "models")
    assert view["href"] == "/team/modelway/models"
    assert _get(airflow.removesuffix("/team"), view["href"], **headers).status_code == 200
    assert [(tab["name"], tab["destination"]) for tab in tabs] == [
        ("Model", "dag"),
        ("Version", "dag_run"),
        ("Version", "task_instance"),
    ]
    assert _get(airflow, "/api/v2/plugins/importErrors", **headers).json()["import_errors"] == []


def follow_the_commit(browser: Chrome) -> None:
    """Press the link to a version's commit: another site opens in a new tab, which the frame's sandbox forbids."""
    link = wait(browser, By.CSS_SELECTOR, "a[href*='gitlab.invalid']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    WebDriverWait(browser, WAIT_SECONDS).until(expected.number_of_windows_to_be(2))
    airflows, opened = browser.window_handles
    browser.switch_to.window(opened)
    WebDriverWait(browser, WAIT_SECONDS).until(expected.url_contains("gitlab.invalid"))
    assert browser.current_url == f"https://gitlab.invalid/team/digits/-/commit/c0ffee{'0' * 34}"
    assert browser.execute_script("return window.opener") is None
    browser.close()
    browser.switch_to.window(airflows)


def test_the_frame_takes_airflows_theme_and_its_links_open_airflows_pages(airflow: str) -> None:
    with open_browser() as browser:
        log_in(browser, url=airflow, user="ada", password="ada-s")
        wait(browser, By.LINK_TEXT, "Models").click()
        browser.switch_to.frame(wait(browser, By.TAG_NAME, "iframe"))
        for link in ("digits", "v1"):
            wait(browser, By.LINK_TEXT, link).click()
        follow_the_commit(browser)
        browser.switch_to.frame(wait(browser, By.TAG_NAME, "iframe"))
        wait(browser, By.LINK_TEXT, "Lineage").click()
        wait(browser, By.XPATH, "//h1[starts-with(., 'Lineage of digits v1')]")
        for theme, change in (("dark", "add"), ("light", "remove")):
            browser.switch_to.default_content()
            browser.execute_script(f"document.documentElement.classList.{change}('dark')")
            browser.switch_to.frame(wait(browser, By.TAG_NAME, "iframe"))
            assert wait(browser, By.CSS_SELECTOR, f"html[data-theme={theme}] h1")
        assert [error for error in console_errors(browser) if "/modelway/" in error] == []
        browser.find_element(By.LINK_TEXT, "digits/manual__1").click()
        browser.switch_to.default_content()
        WebDriverWait(browser, WAIT_SECONDS).until(expected.url_contains("/team/dags/digits/runs/manual__1"))


def test_the_page_of_a_dag_has_a_tab_with_its_models(airflow: str) -> None:
    with open_browser() as browser:
        log_in(browser, url=airflow, user="ada", password="ada-s")
        browser.get(f"{airflow}/dags/digits/plugin/model")
        browser.switch_to.frame(wait(browser, By.TAG_NAME, "iframe"))
        wait(browser, By.XPATH, "//h2[contains(., 'letters')]")


def act(browser: Chrome, action: str, **fields: str) -> str:
    """Fill in an action on an endpoint's page, press its button twice, and return what the page then says."""
    form = wait(browser, By.CSS_SELECTOR, f"form[data-action={action}]")
    for name, text in fields.items():
        form.find_element(By.NAME, name).send_keys(text)
    button = form.find_element(By.TAG_NAME, "button")
    button.click()
    assert wait(browser, By.ID, "outcome").text == "Press again to confirm."
    button.click()
    WebDriverWait(browser, WAIT_SECONDS).until(lambda page: page.find_element(By.ID, "outcome").text[:5] != "Press")
    return browser.find_element(By.ID, "outcome").text


def test_who_may_start_runs_releases_and_rolls_back_from_the_page_of_an_endpoint(airflow: str) -> None:
    """No scheduler runs here: the runs wait with what the model's DAG reads, see test_release.py."""
    headers = {"authorization": f"Bearer {_token(airflow, 'ada')}"}
    place = f"{airflow}/modelway/endpoints/digits"
    with open_browser() as browser:
        log_in(browser, url=airflow, user="vic", password="vic-s")
        browser.get(place)
        refused = "Airflow does not let you do this"
        assert act(browser, "release", version="1", reason="I may not").startswith(refused)
        assert act(browser, "share", version="1", weight="30", reason="I may not").startswith(refused)
    assert _get(airflow, "/api/v2/dags/digits/dagRuns", **headers).json()["dag_runs"] == []
    with open_browser() as browser:
        log_in(browser, url=airflow, user="ada", password="ada-s")
        browser.get(place)
        assert "rolls version 1 out." in act(browser, "release", version="1", reason="it is <better>")
        said = act(browser, "rollback", reason="it was not")
        assert "returns the traffic to version 1." in said
        assert "by ada moves traffic, too: of the two, one waits for the other." in said
        said = act(browser, "share", version="1", weight="30", reason="half of <Europe>")
        assert "gives version 1 30 % and holds it there." in said
        assert "by ada moves traffic, too: of the two, one waits for the other." in said
        browser.refresh()
        said = act(browser, "share", version="2", weight="30", reason="no other")
        assert said == "Version 2 has the traffic: name the version that gets a share of it."
        assert [error for error in console_errors(browser) if "/modelway/" in error] == []
    runs = _get(airflow, "/api/v2/dags/digits/dagRuns", **headers).json()["dag_runs"]
    assert [run["conf"] for run in runs] == [
        {"rollout": "yes", "version": "1", "reason": "it is <better>"},
        {"rollout": "rollback", "version": "1", "reason": "it was not"},
        {"rollout": "yes", "version": "1", "hold_at": 30, "reason": "half of <Europe>"},
    ]


def _begin_run_of_rollout(airflow: str) -> None:
    """Create the run that the rollout of letters is of, unless it is there."""
    headers = {"authorization": f"Bearer {_token(airflow, 'ada')}"}
    named = {"dag_run_id": "of-rollout", "logical_date": None}
    answer = httpx.post(f"{airflow}/api/v2/dags/digits/dagRuns", json=named, headers=headers, timeout=60)
    assert answer.status_code in (200, 409)


def test_a_rollout_that_runs_is_held_moved_and_promoted_by_who_may_edit_its_dag(airflow: str) -> None:
    """A worker or the triggerer does it at its next inspection: see tests/contract/test_rollout_judged.py."""
    _begin_run_of_rollout(airflow)
    place = f"{airflow}/modelway/endpoints/letters"
    with open_browser() as browser:
        log_in(browser, url=airflow, user="vic", password="vic-s")
        browser.get(place)
        assert "needs the right to edit the DAG digits" in act(browser, "hold", reason="I may not")
        browser.get(f"{airflow}/modelway/models/digits/versions/2")
        assert "needs the right to edit the DAG digits" in save_note(browser, "not mine", "")
    with open_browser() as browser:
        log_in(browser, url=airflow, user="ada", password="ada-s")
        browser.get(place)
        assert act(browser, "hold", reason="a <talk>").startswith("It is held")
        assert "ada holds it already: a <talk>" in act(browser, "hold", reason="again")
        browser.get(place)
        assert "held by ada: a <talk>" in browser.find_element(By.ID, "actions").text
        assert act(browser, "continue", reason="it is over").startswith("It continues")
        assert act(browser, "weight", weight="30", reason="half of Europe").startswith("It gets 30 %")
        assert "ada ended this step a moment ago: half of Europe" in act(browser, "promote", reason="it is good")
        # As a person sees it who edits at the same time.
        browser.get(f"{airflow}/modelway/models/digits/versions/2")
        assert save_note(browser, "the <best> so far", "eu, gpu").startswith("Saved.")
        browser.execute_script("document.getElementById('note').dataset.since = ''")
        assert "ada has changed description and tags" in save_note(browser, "mine", "", is_open=True)
        browser.get(f"{airflow}/modelway/models/digits/versions/2")
        text = wait(browser, By.TAG_NAME, "main").text
        for part in ("the <best> so far", "eu gpu description and tags by ada"):
            assert part in text
        ours = [error for error in console_errors(browser) if "/modelway/" in error]
        assert [error for error in ours if " 409 " not in error] == []


def save_note(browser: Chrome, description: str, tags: str, *, is_open: bool = False) -> str:
    """Edit a version's description and tags, and return what the page then says."""
    section = wait(browser, By.ID, "note")
    if not is_open:
        section.find_element(By.TAG_NAME, "summary").click()
    for name, text in (("description", description), ("tags", tags)):
        field = section.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)
    button, status = section.find_element(By.TAG_NAME, "button"), "[role=status]"
    button.click()
    button.click()
    WebDriverWait(browser, WAIT_SECONDS).until(
        lambda page: (
            page.find_element(By.CSS_SELECTOR, f"#note {status}").text[:5] not in ("", "Press")
            and page.find_element(By.CSS_SELECTOR, "#note button").is_enabled()
        )
    )
    return section.find_element(By.CSS_SELECTOR, status).text


def test_a_rollout_is_ended_once_from_the_page_of_its_endpoint(airflow: str) -> None:
    """The page says so to somebody for whom it is older than the end of the run."""
    headers = {"authorization": f"Bearer {_token(airflow, 'ada')}"}
    run = f"{airflow}/api/v2/dags/digits/dagRuns/of-rollout"
    _begin_run_of_rollout(airflow)
    with open_browser() as browser:
        log_in(browser, url=airflow, user="ada", password="ada-s")
        browser.get(f"{airflow}/modelway/endpoints/letters")
        assert act(browser, "end", reason="too slow").startswith("The run of-rollout is ended")
        assert "is over (failed): somebody else was faster" in act(browser, "end", reason="again")
        # No listener of a scheduler has closed it: as after the death of a worker.
        browser.get(f"{airflow}/modelway/endpoints/letters")
        # The model has no DAG of its own here: in test_page_live.py it is closed.
        assert act(browser, "close", reason="its worker died").startswith("Airflow does not know this DAG")
    ended = httpx.get(run, headers=headers, timeout=60).json()
    assert (ended["state"], ended["note"]) == ("failed", "too slow")


def test_a_task_links_to_its_run_its_version_and_its_endpoint_before_it_has_ended(airflow: str) -> None:
    """No task runs here: what Airflow shows of one that has not even begun, it shows while it runs."""
    headers = {"authorization": f"Bearer {_token(airflow, 'ada')}"}
    _begin_run_of_rollout(airflow)

    def links(task: str) -> dict[str, str]:
        path = f"/api/v2/dags/digits/dagRuns/of-rollout/taskInstances/{task}/links"
        found: dict[str, str] = _get(airflow, path, **headers).json()["extra_links"]
        return found

    page = f"{airflow}/modelway/of-run?dag=digits&run=of-rollout"
    assert links("find") == {"Live run": page}
    found = links("promote")
    assert found == {"Live run": page, "Version": f"{page}&to=version", "Endpoint": f"{page}&to=endpoint"}
    for name, heading in (("Live run", "Run of digits"), ("Version", "letters v1"), ("Endpoint", "Endpoint letters")):
        page = httpx.get(found[name], headers={**headers, "accept": "text/html"}, follow_redirects=True, timeout=60)
        assert f"<h1>{heading}" in page.text, name


#: where the screenshots of docs/tour.md go: `MODELWAY_TOUR=docs/images pytest … -k tour` makes them anew
TOUR = os.environ.get("MODELWAY_TOUR")


def test_the_tour_leads_from_the_dag_to_why_a_version_serves_and_back(airflow: str, tmp_path: Path) -> None:
    """docs/tour.md, step by step."""
    folder, taken = Path(TOUR) if TOUR else tmp_path, 0

    def picture(browser: Chrome) -> None:
        nonlocal taken
        taken += 1
        browser.switch_to.default_content()
        assert browser.save_screenshot(str(folder / f"tour-{taken}.png"))
        browser.switch_to.frame(wait(browser, By.TAG_NAME, "iframe"))

    _begin_run_of_rollout(airflow)
    with open_browser() as browser:
        log_in(browser, url=airflow, user="ada", password="ada-s")
        browser.get(f"{airflow}/dags/digits")
        wait(browser, By.LINK_TEXT, "Model").click()
        browser.switch_to.frame(wait(browser, By.TAG_NAME, "iframe"))
        wait(browser, By.XPATH, "//h2[contains(., 'digits')]")
        picture(browser)
        for link, heading in (
            ("v2", "//h1[starts-with(., 'digits v2')]"),
            ("Compare with v1", "//h1[starts-with(., 'digits v1 → v2')]"),
            ("Models", "//h2[contains(., 'letters')]"),
            ("digits", "//h1[starts-with(., 'digits')]"),
            ("The newest 2 side by side", "//h1[starts-with(., 'digits v1')]"),
        ):
            wait(browser, By.LINK_TEXT, link).click()
            wait(browser, By.XPATH, heading)
            if link != "Models":
                picture(browser)
        for endpoint in ("letters", "digits"):
            browser.get(f"{airflow}/plugin/models")
            browser.switch_to.frame(wait(browser, By.TAG_NAME, "iframe"))
            wait(browser, By.LINK_TEXT, "What serves").click()
            wait(browser, By.LINK_TEXT, endpoint).click()
            wait(browser, By.XPATH, f"//h1[starts-with(., 'Endpoint {endpoint}')]")
            picture(browser)
        assert "returns the traffic to version 1." in act(browser, "rollback", reason="of the tour")
        picture(browser)
    assert taken == 8


def test_a_process_that_loads_the_plugin_loads_no_server(tmp_path: Path) -> None:
    code = (
        "import sys; from airflow.plugins_manager import get_plugin_info; before = set(sys.modules); "
        "names = [plugin['name'] for plugin in get_plugin_info()]; "
        "light = ('modelway.plugin', 'modelway.get_provider_info', 'modelway.ui', 'modelway.ui.extra_links'); "
        "print(names, [m for m in sys.modules if m.startswith('modelway.') and m not in light])"
    )
    environment = _environment(tmp_path, 0)
    done = subprocess.run([*PYTHON, code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "['modelway'] []"
