"""Where there are several hosts, the tasks that use an endpoint of one host go to the queue of its worker."""

from pathlib import Path

import pytest
from modelway.dag.build import build_dag
from modelway.spec.load import load_spec

from tests.unit.spec_samples import write_model

DEFAULT = "default"


def queues(folder: Path, text: str) -> dict[str, str]:
    """Return the queues of a model's tasks that serve."""
    dag = build_dag(load_spec(write_model(folder, "tiny", spec=text)))
    return {task.task_id.removeprefix("serve."): task.queue for task in dag.tasks if task.task_id.startswith("serve.")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: tiny\n", ("serving", "serving", "serving")),
        # Any host finds an image that is in a registry.
        ("model: tiny\nimage: {repository: registry:5000/tiny}\n", (DEFAULT, "serving", "serving")),
        ("model: tiny\nendpoint: {target: docker}\n", (DEFAULT, DEFAULT, DEFAULT)),
        (
            "model: tiny\nendpoint: {environments: {dev: {}, prod: {target: docker}}}\n",
            ("serving", "serving", "serving"),
        ),
    ],
)
def test_what_serves_on_one_host_runs_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, str, str]
) -> None:
    monkeypatch.delenv("MODELWAY_SERVING_QUEUE", raising=False)
    names = ("build_image", "deploy", "promote")
    assert set(queues(tmp_path / "without", text).values()) == {DEFAULT}
    monkeypatch.setenv("MODELWAY_SERVING_QUEUE", "serving")
    assert queues(tmp_path / "with", text) == dict(zip(names, expected, strict=True))
