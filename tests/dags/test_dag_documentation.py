"""The page of a DAG: a readable summary that no text of a spec can break."""

import json
import re

import pytest
from markdown_it import MarkdownIt
from modelway.dag.documentation import code, describe_schedule, prose
from modelway.spec.sections import ScheduleSection

NASTY = [
    "a | b",
    "`tick` and ``two``",
    "<script>alert(1)</script>",
    "[click](javascript:alert(1)) ![x](http://x/y.png)",
    "**bold** _it_ ~~gone~~",
    "# head",
    "- item",
    "1. item",
    "back\\slash \\| pipe",
    "line\n\n| a | b |\n|---|---|\n<b>",
    "&lt;b&gt; &copy;",
    "\u2028line\u0007bell\x1b[31m",
    "=====",
    "> quote",
    "`",
    "\\",
    "{{ ds }} {% raw %}",
]


def rendered(markdown: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)


def text_of(html: str) -> str:
    plain = re.sub(r"<[^>]*>", "", html)
    for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        plain = plain.replace(entity, letter)
    return plain.strip()


def shown(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


@pytest.mark.parametrize("text", NASTY)
def test_text_stays_text(text):
    html = rendered(prose(text))
    assert set(re.findall(r"<(\w+)", html)) == {"p"}
    assert text_of(html) == shown(text)


@pytest.mark.parametrize("make", [prose, code])
@pytest.mark.parametrize("text", NASTY)
def test_text_stays_in_its_cell(make, text):
    html = rendered(f"| a | b |\n| --- | --- |\n| {make(text)} | end |\n")
    assert html.count("<td") == 2
    assert set(re.findall(r"<(\w+)", html)) - {"code"} == {"table", "thead", "tbody", "tr", "th", "td"}
    (cell,) = re.findall(r"<tbody>\s*<tr>\s*<td>(.*?)</td>", html, flags=re.DOTALL)
    assert text_of(cell) == shown(text)


FULL = """\
description: Numbers | from <pictures>
owner: vision
params: {epochs: 4}
datasets:
  images: {uri: "s3://b/{{ partition }}", version: v7}
  labels: {uri: "/data/labels", digest: "sha256:%s"}
schedule: {cron: "30 3 * * 1", timezone: Europe/Berlin, start: "2026-01-01", assets: ["s3://b/new"]}
reuse: same-inputs
deadline: 2h
pool: gpus
train: {base: champion, params: {lr: 0.1}, resources: {cpu: 2, memory: 2Gi, gpu: 1}, timeout: 1h, stages: [{name: one}]}
verify: {gates: {accuracy: ">= 0.9"}}
rollout: {steps: [10, 100], interval: 30s, alias: live}
endpoint: {local: {port: 8080}, weight: 60, predictors: [{name: small, version: champion, weight: 40}]}
""" % ("ab" * 32)


def test_the_page_tells_the_model(dag_of):
    dag = dag_of(FULL)
    rows = [line for line in dag.doc_md.splitlines() if line.startswith("|")]
    for row in (
        "| Owner | vision |",
        "| Starts | every Monday at 03:30, Europe/Berlin (`30 3 * * 1`); an event of `s3://b/new` |",
        "| First interval | 2026-01-01 |",
        "| Continues from | version `champion` |",
        "| Traffic | 10 % → 100 %, at least 30s each, then `live` |",
        "| Served by | `local`, port `8080` |",
        "| Served beside it | `small`: `tiny` `champion`, weight 40, and 60 of what the runs deploy |",
        "| Deadline | 2h |",
        "| `one` | `local` | `lr=0.1` | 2 CPU, 2Gi, 1 GPU | 1h |",
        "| `images` | `s3://b/{{ partition }}` | `v7` |",
        "| `accuracy` | `>= 0.9` |",
    ):
        assert row in rows
    html = rendered(dag.doc_md)
    assert "<p>Numbers | from &lt;pictures&gt;</p>" in html
    assert html.count("<table>") == 4
    assert re.findall(r'href="([^"]*)"', html) == ["/modelway/models/tiny", "/plugin/models"]


def test_links_begin_with_the_path_of_airflow(dag_of, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/team-a/")
    assert "(/team-a/plugin/models)" in dag_of().doc_md


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("@daily", "every day at midnight, UTC (`@daily`)"),
        ("5 * * * *", "every hour at minute 5, UTC (`5 * * * *`)"),
        ("0 3 * * *", "every day at 03:00, UTC (`0 3 * * *`)"),
        ("0 3 * * 7", "every Sunday at 03:00, UTC (`0 3 * * 7`)"),
        ("*/5 1-3 * * *", "cron `*/5 1-3 * * *`, UTC"),
        ("5 * * * 1", "cron `5 * * * 1`, UTC"),
    ],
)
def test_a_schedule_in_words(cron, words):
    assert describe_schedule(ScheduleSection(cron=cron), on_event=False) == words


def test_no_schedule_in_words():
    assert describe_schedule(None, on_event=False) == "when triggered by a user"
    assert describe_schedule(None, on_event=True) == "an event that requests a retraining"


def test_the_page_has_no_place_or_time_in_it(dag_of, tmp_path):
    assert str(tmp_path) not in dag_of(FULL).doc_md
    assert json.dumps(dag_of(FULL).doc_md) == json.dumps(dag_of(FULL).doc_md)
