"""What a browser makes of the pages: nothing is cut off or overlaps, on a wide screen and on a narrow one.

The pages are served alone, over a lineage that asks much of them; test_page_browser.py meets them within Airflow.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote, urljoin

import httpx
import pytest
from axe import violations
from browser import console_errors, open_browser, resize, wait
from modelway.lineage.store import open_lineage
from modelway.ui.app import create_app
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tests.lineage_samples import digest
from tests.page_samples import DAGS, HOSTILE, LONG, SLASHES, fill
from tests.served_pages import served

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

VERSIONS = ["digits/versions/6", "churn/versions/1", "many/versions/1", "wide/versions/1", "bare/versions/1"]
ODD = [f"{quote(name, safe='')}/versions/1" for name in ("hostile", LONG, SLASHES)]
PAGES = [
    "",
    *(f"/{version}" for version in (*VERSIONS, *ODD)),
    *(f"/{version}/lineage" for version in ("digits/versions/6", *ODD)),
    *(f"/{quote(name, safe='')}" for name in ("digits", LONG, SLASHES)),
    "/digits/compare?a=1&b=6",
    f"/{quote(SLASHES, safe='')}/compare?a=1&b=2",
    "/digits/side-by-side?v=1&v=5&v=6",
    "/digits/parallel",
    "/digits/drift",
    "/churn/drift",
    "/digits?before=3",
    "/digits?before=1",
    "?q=digits&sort=new",
    "?q=nothing+has+this",
    "/../endpoints/digits",
    "/../of-run?dag=digits&run=nothing",
    "/../serving",
    "/../serving?at=2020-01-01",
    f"/../who-has?content={digest('onnx')}",
]

#: one page of each kind, and one that is not there: axe takes seconds for a page
KINDS = [
    "",
    "?q=nothing+has+this",
    "/digits",
    "/digits/versions/6",
    "/bare/versions/1",
    "/digits/versions/6/lineage",
    "/digits/compare?a=1&b=6",
    "/digits/side-by-side?v=1&v=5&v=6",
    "/digits/parallel",
    "/digits/drift",
    "/nothing",
    "/../endpoints/digits",
    "/../of-run?dag=digits&run=nothing",
    "/../serving",
    f"/../who-has?content={digest('onnx')}",
]

#: what reaches beyond the window, but for what has a scroll bar of its own
OUTSIDE = """
const wide = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")].filter((each) => {
  const scroll = each.parentElement.closest(".scroll, .packages, svg");
  const folded = each.closest("details:not([open])");
  return !scroll && !(folded && !each.matches("details, summary")) && each.getBoundingClientRect().right > wide + 1;
}).map((each) => each.outerHTML.slice(0, 200));
"""

#: charts without a size, texts that leave their chart, and level ones that cover one another
BADLY_DRAWN = """
const found = [];
for (const chart of document.querySelectorAll("svg.chart")) {
  const of = chart.getAttribute("aria-label").slice(0, 40) + ": ";
  const frame = chart.getBoundingClientRect();
  if (frame.width < 100 || frame.height < 50) found.push(of + "has no size");
  if (!chart.querySelector("desc").textContent) found.push(of + "says nothing to a screen reader");
  const texts = [...chart.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]);
  for (const [text, box] of texts)
    if (Math.min(box.left - frame.left, frame.right - box.right, box.top - frame.top, frame.bottom - box.bottom) < -2)
      found.push(of + text.textContent + " is cut off");
  const level = texts.filter(([text]) => !text.hasAttribute("transform"));
  level.forEach(([text, one], place) => level.slice(place + 1).forEach(([other, two]) => {
    const across = Math.min(one.right, two.right) - Math.max(one.left, two.left);
    const down = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
    if (across > 1 && down > 3) found.push(of + text.textContent + " covers " + other.textContent);
  }));
}
return found;
"""


def no_runs(request: Request) -> JSONResponse:
    return JSONResponse({"state": "success", "dag_runs": [], "task_instances": []})


#: what the scripts of the pages request of Airflow
NO_RUNS = Route("/api/v2/dags/{path:path}", no_runs)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the list of models."""
    url = f"sqlite:///{tmp_path_factory.mktemp('pages') / 'lineage.db'}"
    fill(open_lineage(url))
    pages = create_app(store_url=lambda: url, readable_dags=lambda: DAGS)
    with served(Starlette(routes=[NO_RUNS, Mount("/modelway", pages)])) as place:
        yield f"{place}/modelway/models"


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_reaches_beyond_the_window_is_cut_off_or_overlaps(browser, pages, width):
    resize(browser, width=width)
    charts = 0
    for page in PAGES:
        browser.get(f"{pages}{page}")
        assert browser.find_elements(By.TAG_NAME, "h1"), page
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, page
        assert browser.execute_script(OUTSIDE) == [], page
        # The bars of importances shrink with the window.
        tables = browser.execute_script("return document.querySelectorAll('table:not(.scroll table, .bars)').length")
        assert tables == 0, f"{page}: a table has no frame of its own to scroll in"
        assert browser.execute_script(BADLY_DRAWN) == [], page
        charts += len(browser.find_elements(By.CSS_SELECTOR, "svg.chart"))
        assert console_errors(browser) == [], page
    assert charts >= 30


def set_scheme(browser, scheme: str) -> None:
    """Let the browser say that its user wants a light or a dark page."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def test_everybody_can_use_every_page_in_light_and_in_dark(browser, pages):
    """WCAG AA as axe checks it: names for screen readers, contrast, structure, what the keyboard reaches."""
    resize(browser, width=1280)
    browser.set_script_timeout(120)
    found = {}
    for page in KINDS:
        set_scheme(browser, "light")
        browser.get(f"{pages}{page}")
        found[page] = violations(browser)
        set_scheme(browser, "dark")
        ground = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        assert int(re.findall(r"\d+", ground)[0]) < 128
        found[f"{page}, dark"] = violations(browser, "color-contrast")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    # The page that is not there is an error for the browser: no later test shall find it.
    assert len(console_errors(browser)) == 1
    assert {page: wrong for page, wrong in found.items() if wrong} == {}


def test_what_a_model_calls_its_things_is_never_markup(browser, pages):
    for page in ("", "/hostile", "/hostile/versions/1", "/hostile/versions/1/lineage", "/hostile/compare?a=1&b=1"):
        browser.get(f"{pages}{page}")
        assert HOSTILE in browser.find_element(By.TAG_NAME, "body").get_property("textContent") or "compare" in page
        assert browser.title != "broken"
        # The scripts of the pages themselves come from their own files.
        assert browser.find_elements(By.CSS_SELECTOR, "img, main script:not([src*='/static/'])") == []
        assert console_errors(browser) == []


def test_the_charts_tell_the_record(browser, pages):
    """Each number is the one that the JSON of the version has."""
    resize(browser, width=1280)
    browser.get(f"{pages}/digits/versions/6")
    run = httpx.get(f"{pages}/digits/versions/6".replace("/models", "/api/models", 1)).json()["run"]
    figures = {figure["name"]: figure["data"] for figure in run["figures"]}
    for name, title, called in (("roc", "ROC", "AUC"), ("pr", "Precision and recall", "AP")):
        figure = browser.find_element(By.XPATH, f"//figure[figcaption[contains(., '{title}')]]")
        curves = figures[name]["curves"]
        found = re.findall(rf"(\d) {called} ([\d.]+), (\d+) rows", figure.text)
        assert found == [(each["name"], f"{each['area']:.4g}", str(each["positives"])) for each in curves]
        assert f"mean {called} {figures[name]['area']:.4g}" in figure.text
        drawn = figure.find_elements(By.CSS_SELECTOR, "polyline[class^=c]")
        assert [len(line.get_attribute("points").split()) for line in drawn if "chart" in _svg_of(line)] == [
            len(each["x"]) for each in curves
        ]
    chart = browser.find_element(By.XPATH, "//figure[figcaption[contains(., 'Confusion')]]")
    cells = [int(each.text) for each in chart.find_elements(By.CSS_SELECTOR, "text.number")]
    assert cells == [value for row in figures["confusion"]["values"] for value in row]
    rows = browser.find_elements(By.CSS_SELECTOR, "#importance tbody tr")
    assert [row.text.split()[:2] for row in rows] == [
        [each["feature"], f"{each['importance']:.4g}"] for each in run["importances"]
    ]
    loss = browser.find_element(By.XPATH, "//*[@id='training']//figure[figcaption[.='loss']]").text
    assert "2 of 100 not finite: nan at 20, inf at 50" in loss
    image = browser.find_element(By.CSS_SELECTOR, "svg.chart")
    assert (image.aria_role, bool(image.accessible_name)) in {("img", True), ("image", True)}


def _svg_of(line) -> str:
    return line.find_element(By.XPATH, "..").get_attribute("class")


def wait_for_heading(browser, text: str) -> None:
    """Wait until the page has this heading: the one before is still there for a moment."""
    wait(browser, By.XPATH, f"//h1[starts-with(., '{text}')]")


def send(browser, button: str, **fields: str) -> None:
    """Fill in the form that has these fields, and press its button."""
    for name, text in fields.items():
        field = browser.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)
    browser.find_element(By.XPATH, f"//button[.='{button}']").click()


def test_two_versions_are_chosen_and_compared(browser, pages):
    browser.get(f"{pages}/digits")
    send(browser, "Compare", a="v1", b="champion")
    wait_for_heading(browser, "digits v1 → v5")
    browser.find_element(By.LINK_TEXT, "Swap").click()
    wait_for_heading(browser, "digits v5 → v1")
    browser.get(f"{pages}/digits/compare?a=1&b=6")
    row = browser.find_element(By.XPATH, "//tr[td[.='accuracy']]").text
    assert row.startswith("accuracy 0.9733 0.9867 +0.0134")
    assert console_errors(browser) == []


def test_what_was_is_asked_for_by_a_form(browser, pages):
    browser.get(f"{pages}/digits")
    send(browser, "Show", wanted="champion", at="2999-01-01")
    wait_for_heading(browser, "digits v5")
    browser.get(pages)
    browser.find_element(By.LINK_TEXT, "What serves").click()
    assert "digits v6" in wait(browser, By.CSS_SELECTOR, "table").text
    send(browser, "Show", at="2020-01-01")
    wait_for_heading(browser, "What served at 2020-01-01")
    assert "Nothing that you may read served then." in browser.find_element(By.TAG_NAME, "main").text
    assert console_errors(browser) == []


def test_the_lineage_shows_every_thing_and_leads_to_the_others(browser, pages):
    browser.get(f"{pages}/digits/versions/6/lineage")
    found = httpx.get(f"{pages}/digits/versions/6/lineage".replace("/models", "/api/models", 1)).json()
    for side in ("up", "down"):
        section = browser.find_element(By.CSS_SELECTOR, f"section[aria-label={side}stream]")
        names = {node["name"] for node in found[f"{side}stream"]["nodes"]}
        assert len(names) > 3
        assert [name for name in names if name not in section.text] == []
    deepest = browser.find_elements(By.CSS_SELECTOR, ".tree " * 6)
    assert deepest
    browser.find_element(By.LINK_TEXT, "digits v1").click()
    wait_for_heading(browser, "digits v1")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if (tag, name) == ("a", "href")]


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(headers={"accept": "text/html"}, timeout=60) as opened:
        yield opened


def test_every_link_leads_to_a_page(client, pages):
    waiting, seen, runs = [pages], {pages}, set()
    while waiting:
        place = waiting.pop()
        answer = client.get(place)
        assert answer.status_code == 200, place
        links = _Links()
        links.feed(answer.text if "html" in answer.headers["content-type"] else "")
        for link in (urljoin(place, each).partition("#")[0] for each in links.found):
            if "/archive" in link or "/file?path=" in link:
                continue  # a download, which is at home in test_ui_downloads.py
            if "/modelway/" not in link:
                runs.add(link)
            elif link not in seen:
                seen.add(link)
                waiting.append(link)
    assert len(seen) > 60
    # Airflow's own pages are at home in test_page_browser.py.
    assert [link for link in runs if not re.search(r"^http://[^/]+/dags/[\w-]+(/runs/[^/]+)?$", link)] == []


def test_times_are_in_the_zone_that_is_chosen_in_airflow(browser, pages):
    browser.get(f"{pages}/digits/versions/6")
    texts = """
    const { text, zone } = modelwayTimes;
    return [text("2026-03-01T23:30:05+00:00", "Europe/Berlin", false), text("2026-03-01T23:30:05+00:00", "UTC", true),
      text("2026-07-01T00:30:00+00:00", "America/New_York", true), zone('"Asia/Tokyo"', "UTC"),
      zone("Asia/Tokyo", "UTC"), zone("No/Where", "Europe/Paris"), zone(null, "Europe/Paris")];
    """
    assert browser.execute_script(texts) == [
        "2026-03-02 00:30:05 CET",
        "2026-03-01 23:30 UTC",
        "2026-06-30 20:30 GMT-4",
        *("Asia/Tokyo", "Asia/Tokyo", "Europe/Paris", "Europe/Paris"),
    ]
    browser.execute_script("localStorage.setItem('timezone', 'Asia/Tokyo')")
    browser.refresh()
    started = browser.find_element(By.XPATH, "//dt[.='Started']/following-sibling::dd[1]/time")
    assert (started.text, started.get_attribute("title")) == ("2026-03-01 21:00:00 GMT+9", "2026-03-01 12:00:00 UTC")
    browser.execute_script("localStorage.removeItem('timezone')")


def active(browser):
    return browser.switch_to.active_element


def test_a_person_with_a_keyboard_alone_finds_a_version_and_its_lineage(browser, pages):
    resize(browser, width=1280)

    def tab_to(text: str) -> None:
        for _ in range(150):
            ActionChains(browser).send_keys(Keys.TAB).perform()
            if active(browser).text == text:
                assert active(browser).value_of_css_property("outline-style") == "solid", f"{text} does not show it"
                return
        raise AssertionError(f"the keyboard does not reach {text}")

    browser.get(f"{pages}?q=digits")
    tab_to("v6")
    active(browser).send_keys(Keys.ENTER)
    wait_for_heading(browser, "digits v6")
    tab_to("Lineage")
    active(browser).send_keys(Keys.ENTER)
    wait_for_heading(browser, "Lineage of digits v6")
    wait(browser, By.XPATH, "//*[@class='graph-node k-version']//a[contains(., 'digits v6')]")
    tab_to("version digits v6")
    active(browser).send_keys(Keys.ARROW_LEFT)
    assert active(browser).text.startswith("run ")
    active(browser).send_keys(Keys.ARROW_RIGHT)
    assert active(browser).text == "version digits v6"
    active(browser).send_keys("-")
    assert "80 %" in browser.find_element(By.CSS_SELECTOR, "#graph [role=status]").text
    # What is next to a thing is loaded on request.
    count = len(browser.find_elements(By.CSS_SELECTOR, ".graph-node"))
    button = browser.find_element(By.CSS_SELECTOR, "#graph .graph-node button[aria-label^='Show what it came out of']")
    browser.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    WebDriverWait(browser, 60).until(
        lambda _: "in all" in browser.find_element(By.CSS_SELECTOR, "#graph [role=status]").text
    )
    assert len(browser.find_elements(By.CSS_SELECTOR, ".graph-node")) >= count
    assert console_errors(browser) == []


def test_things_have_the_column_of_their_distance_and_keep_their_place(browser, pages):
    browser.get(f"{pages}/digits/versions/6/lineage")
    computed = """
    const { makeGraph, add, measured, visible } = modelwayGraph, graph = makeGraph();
    const nodes = (...ids) => ids.map((id) => ({ id, kind: "run", name: id }));
    const edge = (source, target) => ({ source, target, relation: "" });
    add(graph, { direction: "up", roots: ["v"], nodes: nodes("v", "run", "base", "code"),
      edges: [edge("v", "run"), edge("v", "base"), edge("run", "code"), edge("base", "code")] });
    add(graph, { direction: "down", roots: ["v"], nodes: nodes("v", "image"), edges: [edge("image", "v")] });
    add(graph, { direction: "up", roots: ["run"], nodes: nodes("run", "data", "twin"),
      edges: [edge("run", "data"), edge("twin", "data"), edge("twin", "code")] });
    const part = { left: 0, top: 0, right: 10, bottom: 10 };
    return [[...graph.columns].sort(([one], [other]) => one - other), [...graph.near.get("run")].sort(),
      measured(graph).width, visible(graph, part).map((spot) => spot.id), [...graph.near.get("data")]];
    """
    columns, near, width, seen, readers = browser.execute_script(computed)
    assert columns == [[-2, ["code", "data"]], [-1, ["run", "base"]], [0, ["v"]], [1, ["image"]]]
    assert (near, width) == (["code", "data", "v"], 4 * 250 + 10)
    assert seen == ["code", "data"]
    assert readers == ["run"], "a run of another model with the same id has no place, and no line"


#: answers the page's request of its graph with one version that 10,000 images were made of
MANY = """
const real = window.fetch, count = 10000, root = "version:digits@6";
window.fetch = async (url, ...rest) => {
  if (!String(url).includes("/lineage?steps=")) return real(url, ...rest);
  const nodes = [{ id: root, kind: "version", name: "digits v6", detail: {} }], edges = [];
  for (let at = 0; at < count; at += 1) {
    nodes.push({ id: `image:${at}`, kind: "image", name: `image ${at}`, detail: {} });
    edges.push({ source: `image:${at}`, target: root, relation: "made of" });
  }
  const side = (direction, found, near) => ({ direction, roots: [root], nodes: found, edges: near, is_whole: true });
  const answer = { upstream: side("up", nodes.slice(0, 1), []), downstream: side("down", nodes, edges) };
  return new Response(JSON.stringify(answer));
};
"""


def test_ten_thousand_things_are_a_few_hundred_in_the_page(browser, pages):
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": MANY})
    try:
        browser.get(f"{pages}/digits/versions/6/lineage")
        first = wait(browser, By.XPATH, "//*[contains(@class, 'graph-node')]//*[.='image image 0']")
        assert len(browser.find_elements(By.CSS_SELECTOR, ".graph-node")) < 400
        browser.execute_script("arguments[0].focus()", first)
        active(browser).send_keys(Keys.END)
        assert active(browser).text == "image image 9999"
        assert len(browser.find_elements(By.CSS_SELECTOR, ".graph-node")) < 400
        active(browser).send_keys(Keys.ARROW_UP)
        assert active(browser).text == "image image 9998"
        for _ in range(12):
            browser.find_element(By.CSS_SELECTOR, "[data-zoom=out]").click()
        assert len(browser.find_elements(By.CSS_SELECTOR, ".graph-node")) <= 401
        assert console_errors(browser) == []
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": added["identifier"]})
