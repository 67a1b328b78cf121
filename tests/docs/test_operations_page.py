"""docs/operations.md and what belongs to it: the dashboard draws what is documented, no secret has a default."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
COMPOSE = (ROOT / "docker-compose.yaml").read_text()


def test_the_dashboard_draws_the_documented_metrics_and_no_others() -> None:
    document = json.loads((ROOT / "docs" / "dashboards" / "modelway.json").read_text())
    drawn = {
        name
        for panel in document["panels"]
        for target in panel["targets"]
        for name in re.findall(r"airflow_(modelway_\w+)", target["expr"])
    }
    documented = {name.replace(".", "_") for name in re.findall(r"`(modelway(?:\.\w+)+)`", OPERATIONS)}
    assert drawn == documented
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


def test_the_library_sends_the_documented_metrics_and_no_others() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "plugins" / "modelway").rglob("*.py"))
    sent = set(re.findall(r'metrics\.(?:count|gauge|timing)\(\s*"([\w.]+)"', sources))
    sent |= set(re.findall(r'stats\.(?:gauge|incr|timing)\("modelway\.([\w.]+)"', sources))
    assert {f"modelway.{name}" for name in sent} == set(re.findall(r"`(modelway(?:\.\w+)+)`", OPERATIONS))


def test_the_deployment_has_no_default_secret_and_mounts_no_engine() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    for name in re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*)[^}]*\}", COMPOSE):
        assert not re.search(rf"\$\{{{name}:?-", COMPOSE), f"{name} has a default"
    assert "docker.sock" not in COMPOSE
    assert {name for name, service in services.items() if service.get("ports")} == {"api-server", "gateway"}
    for name, service in services.items():
        assert re.search(r":[\w.-]*\d", service["image"]), f"the image of {name} is not pinned"
        assert service.get("restart") == ("no" if name == "migrate" else "unless-stopped"), name
        assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}, name
        assert name == "migrate" or service["healthcheck"]["test"], name


def test_every_setting_that_the_page_names_is_in_the_compose_file() -> None:
    named = set(re.findall(r"`((?:UI|ENDPOINT|PUBLISH|WORKER|GATEWAY|STATSD|TASK)_[A-Z_]+)[`=]", OPERATIONS))
    assert {"UI_PORT", "ENDPOINT_PORTS", "WORKER_TASKS", "PUBLISH_ADDRESS"} <= named
    assert {name for name in named if f"${{{name}:" not in COMPOSE} == set()
