"""Once for real: other images are requested, labels come late, the monitor requests a retraining, and that serves."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import REPOSITORY, Lab, wait_for
from modelway.dag.monitor import DAG_ID as MONITOR

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]
MODELWAY = Path(sys.executable).parent / "modelway"
MODEL = "watched"
RUN_SECONDS = 600
#: images that the first version is made of; the others come as requests
FIRST, A_REQUEST = 900, 16


class Digits:
    """The images of scikit-learn, the later ones as a camera sees them that was mounted wrong."""

    def __init__(self, lab: Lab) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        images, self.labels = digits.images[order].astype(np.float32), digits.target[order]
        images[FIRST:] = np.rot90(images[FIRST:], axes=(1, 2))
        self.images = images.reshape(len(images), 64)
        self.lab = lab

    def write(self, begin: int, end: int) -> None:
        """Make these rows the labelled ones, which a run trains on."""
        file = self.lab.home.parent / "rows.npz"
        np.savez(file, images=self.images[begin:end], labels=self.labels[begin:end])

    def send(self) -> dict[str, int]:
        """Send the rotated images as requests, and return the labels by the ids of the rows."""
        url, labels = f"{self.lab.endpoint.status(MODEL).url}/v2/models/{MODEL}/infer", {}
        for at in range(FIRST, len(self.labels), A_REQUEST):
            images = self.images[at : at + A_REQUEST]
            tensor = {"name": "image", "datatype": "FP32", "shape": list(images.shape), "data": images.ravel().tolist()}
            answer = httpx.post(url, json={"id": f"camera-{at}", "inputs": [tensor]})
            assert answer.status_code == 200, answer.text
            several = len(images) > 1
            labels |= {
                f"camera-{at}/{row}" if several else f"camera-{at}": int(self.labels[at + row])
                for row in range(len(images))
            }
        return labels


def check(lab: Lab) -> None:
    """Let the monitor check, and wait until it has."""
    run_id = lab.api.trigger(MONITOR)
    wait_for(lambda: lab.api.run_state(MONITOR, run_id) in ("success", "failed"), RUN_SECONDS)
    assert lab.api.run_state(MONITOR, run_id) == "success", lab.api.log(MONITOR, run_id, "check")


def runs(lab: Lab) -> list[dict]:
    return lab.api.call("GET", f"/dags/{MODEL}/dagRuns", params={"order_by": "id"})["dag_runs"]


def test_a_model_whose_requests_change_is_retrained_once_on_them_and_serves(lab, tmp_path):
    digits, monitoring = Digits(lab), lab.lineage.monitoring
    digits.write(0, FIRST)
    try:
        assert lab.finish(MODEL) == "success", lab.states(MODEL)
        lab.api.wait_for_dag(MONITOR)
        check(lab)
        assert monitoring.state(MODEL).state["version"] == 1
        labels = digits.send()
        check(lab)
        assert monitoring.requests(MODEL) == []
        # Later somebody knows what the images showed; the last requests are what a run trains on.
        file = tmp_path / "labels.csv"
        file.write_text("".join(f"{name},{label}\n" for name, label in labels.items()))
        added = subprocess.run(
            [MODELWAY, "labels", "add", MODEL, "--file", file],
            env={**os.environ, "MODELWAY_LINEAGE_URL": lab.lineage.engine.url.render_as_string(hide_password=False)},
            capture_output=True,
            text=True,
        )
        assert added.stdout.startswith(f"{len(labels)} new, 0 changed"), added.stdout + added.stderr
        digits.write(FIRST, len(digits.labels))
        check(lab)
        (request,) = monitoring.requests(MODEL)
        assert (request.version, request.rule, request.rebuild) == (1, "schema", True)
        numbers = monitoring.slices(MODEL, 1, since=request.at.replace(year=2000))[-1].numbers
        assert numbers["drift"]["over"]
        assert numbers["quality"]["over"]
        assert numbers["quality"]["share"] < 0.3 < 0.85 < numbers["quality"]["reference"]
        # Its event starts the run, whose version takes over.
        wait_for(lambda: len(runs(lab)) == 2, RUN_SECONDS)
        retrained = runs(lab)[1]
        assert retrained["run_type"] == "asset_triggered"
        ended = lambda: lab.api.run_state(MODEL, retrained["dag_run_id"])  # noqa: E731
        wait_for(lambda: ended() in ("success", "failed"), RUN_SECONDS)
        assert ended() == "success", lab.api.tasks(MODEL, retrained["dag_run_id"])
        assert {each.version for each in lab.endpoint.status(MODEL).predictors if each.weight} == {2}
        assert lab.lineage.aliases(MODEL)["champion"] == 2
        # Once: the same requests to the new version are what it was made of.
        check(lab)
        digits.send()
        for _ in range(2):
            check(lab)
        assert [each.outcome for each in monitoring.requests(MODEL)] == ["version 2"]
        assert len(runs(lab)) == 2
        record_and_page_say_why(lab, request.reason)
        metrics_say_what_happened(lab)
    finally:
        lab.endpoint.delete(MODEL)


def record_and_page_say_why(lab: Lab, reason: str) -> None:
    """The reason stands in the version's record and on both versions' pages."""
    expected = f"event of modelway://{MODEL}/retrain: {reason}"
    assert lab.lineage.version(MODEL, 2).run.reason == expected
    first, second = (page(lab, number) for number in (1, 2))
    assert f"retrain-requested by monitor: {reason}" in first
    assert expected in second


def page(lab: Lab, version: int) -> str:
    answer = httpx.get(
        f"{lab.airflow.url}/modelway/models/{MODEL}/versions/{version}",
        headers={"Authorization": f"Bearer {lab.api.token}"},
    )
    assert answer.status_code == 200
    return html.unescape(answer.text)


def metrics_say_what_happened(lab: Lab) -> None:
    """What docs/operations.md and the dashboard have was received by StatsD."""
    found, page = lab.metrics, (REPOSITORY / "docs" / "operations.md").read_text()
    documented = set(re.findall(r"`(modelway(?:\.\w+)+)`", page))
    # That is of models that predict numbers.
    assert documented - found.names == {"modelway.monitor.error"}
    assert found.names <= documented
    drift = [each.value for each in found.of("monitor.drift", model=MODEL, version="1")]
    assert drift[-1] > 1
    # Of few rows some effect is large by chance.
    assert found.of("monitor.drift", model=MODEL, version="2")[-1].value < drift[-1] / 4
    assert found.of("monitor.quality", model=MODEL, version="1")[-1].value < 0.3
    assert [each.value for each in found.of("monitor.retraining", model=MODEL, rule="schema")] == [1]
