"""An endpoint on a Docker engine: what only containers can do, and what somebody does to them by hand.

Most tests share one endpoint, each leaves it as it was. What every endpoint promises is in test_endpoints.py.
"""

import contextlib
import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from modelway.cli import main
from modelway.endpoints.base import Endpoint, EndpointSpec, EndpointStatus, Login, Predictor, load_endpoint
from modelway.endpoints.docker.containers import Key, Runnable, server_body
from modelway.endpoints.docker.images import SERVER_IMAGE, prepare, remove_unused_models
from modelway.endpoints.docker.service import Service
from modelway.endpoints.docker.state import ServerState
from modelway.endpoints.gateway.container import GATEWAY_IMAGE
from modelway.errors import CapabilityMissing, EndpointNotReady
from modelway.hooks.settings import load_settings
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import open_lineage
from modelway.platforms.docker.engine import Engine
from modelway.platforms.docker.networks import ensure_network, networks

from tests.docker_engine import require_engine
from tests.endpoint_clients import (
    ask,
    call_grpc,
    container_at,
    containers_of,
    eventually,
    left_on_engine,
    load,
    pid_at,
    remove_loaded,
)
from tests.lineage_samples import make_record
from tests.tiny_endpoint import build_own_image
from tests.tiny_model import write_model

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
SOCKET = "/var/run/docker.sock"
DIGEST = f"sha256:{'0' * 64}"
#: changes of the weights under load
CHANGES = int(os.environ.get("ENDPOINT_CHANGES") or 25)


@dataclass(kw_only=True)
class Lab:
    """An endpoint with three versions 30/50/20, the first of them with two servers."""

    root: Path
    images: Mapping[int, str]
    endpoint: Endpoint
    spec: EndpointSpec

    def status(self) -> EndpointStatus:
        found = self.endpoint.status("tiny")
        assert found is not None
        return found

    def container(self, predictor: str, replica: int = 0) -> Any:
        for one in containers_of(self.root):
            if (
                one["Name"].endswith(f".{replica}")
                and one["Config"]["Labels"].get("modelway.dev/predictor") == predictor
            ):
                return one
        raise AssertionError(f"there is no server {replica} of {predictor}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    require_engine(SERVER_IMAGE, GATEWAY_IMAGE)
    folder = tmp_path_factory.mktemp("docker-endpoint")
    images = {
        version: build_own_image(write_model(folder / str(version), scale=version), folder / "layout")
        for version in (1, 2, 3)
    }
    predictors = tuple(
        Predictor(
            name=f"v{version}",
            version=version,
            image=images[version],
            weight=weight,
            replicas=2 if version == 1 else 1,
            resources={"cpu": 1.0, "memory_bytes": 300 << 20},
            batching={"rows": 4},
        )
        for version, weight in {1: 30, 2: 50, 3: 20}.items()
    )
    spec = EndpointSpec(name="tiny", model="tiny", predictors=predictors, stable="v1")
    root = folder / "home" / "endpoints"
    endpoint = load_endpoint("docker", root=root)
    try:
        endpoint.apply(spec)
        yield Lab(root=root.parent, images=images, endpoint=endpoint, spec=spec)
    finally:
        endpoint.delete("tiny")
        remove_loaded(images.values())
    assert left_on_engine(root) == []


def test_20000_requests_are_split_by_the_weights(lab: Lab) -> None:
    """Pearson's chi-square, 2 degrees of freedom: 13.8 is passed by chance once in a thousand."""
    if not _fits(lab):
        assert _fits(lab)


def _fits(lab: Lab) -> bool:
    """Send 20,000 requests and return whether the answers fit the weights; each must be right and counted."""
    before = lab.endpoint.metrics("tiny")
    url, total, found = lab.status().url, 20_000, list[tuple[int, str | None, float | None]]()
    threads = [threading.Thread(target=lambda: found.extend(ask(url, total // 4))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(code, value == float(version or 0)) for code, version, value in found} == {(200, True)}
    counts = Counter(version for _, version, _ in found)
    expected = {"1": 0.3 * total, "2": 0.5 * total, "3": 0.2 * total}
    after = lab.endpoint.metrics("tiny")
    counted = {name: after[name].requests - before[name].requests for name in after}
    assert counted == {f"v{version}": count for version, count in counts.items()}
    assert {one.errors for one in after.values()} == {0}
    measured = {name: sum(after[name].latency.values()) - sum(before[name].latency.values()) for name in after}
    assert measured == counted
    return sum((counts[version] - n) ** 2 / n for version, n in expected.items()) < 13.8


def test_grpc_goes_through_the_gateway_by_the_same_weights_and_counts(lab: Lab) -> None:
    url, before = lab.status().url, lab.endpoint.metrics("tiny")
    counts = call_grpc(url, range(60))
    assert counts == Counter(ask(url, 1, f"user-{number}")[0][1] for number in range(60)), "the user's bucket is REST's"
    assert set(counts) == {"1", "2", "3"}
    after = lab.endpoint.metrics("tiny")
    assert {name: after[name].requests - before[name].requests for name in after} == {
        f"v{version}": 2 * count for version, count in counts.items()
    }
    assert {(one.errors, one.call_errors) for one in after.values()} == {(0, 0)}


def test_weights_change_often_under_load_without_one_failed_request(lab: Lab) -> None:
    with load(lab.status().url) as answers:
        for number in range(CHANGES):
            weights = {"v1": 100, "v2": 0, "v3": 0} if number % 2 else {"v1": 0, "v2": 40, "v3": 60}
            changed = lab.endpoint.set_weights("tiny", weights)
            assert {one.name: one.weight for one in changed.predictors} == weights
            mark = len(answers.all)
            answers.wait_for(20)
            # but for those that were on their way
            used = {f"v{version}" for _, version, _ in answers.all[mark + 8 :]}
            assert used <= {name for name, weight in weights.items() if weight}
        lab.endpoint.set_weights("tiny", {"v1": 30, "v2": 50, "v3": 20})
    assert answers.failures == []
    assert {code for code, _, _ in answers.all} == {200}


def test_a_killed_server_of_two_comes_back_and_costs_what_it_had(lab: Lab) -> None:
    victim = lab.container("v1", replica=1)
    with load(lab.status().url) as answers:
        answers.wait_for(100)
        os.kill(victim["State"]["Pid"], signal.SIGKILL)
        answers.wait_for(300)
        eventually(lambda: lab.status().predictors[0].ready_replicas == 2, patience=120)
        answers.wait_for(50)
    assert answers.failures == []
    lost = [code for code, _, _ in answers.all if code != 200]
    # what was on its way while it died
    assert set(lost) <= {502}
    assert len(lost) <= 12
    (first, *_) = lab.status().predictors
    assert (first.restarts, first.problem) == (1, "")
    assert lab.status().drift == ()


def test_replicas_and_a_version_are_rolled_under_load_without_one_failed_request(lab: Lab) -> None:
    gateway = pid_at(lab.status().url)
    first, second, third = lab.spec.predictors
    with load(lab.status().url) as answers:
        answers.wait_for(50)
        more = lab.endpoint.apply(replace(lab.spec, predictors=(replace(first, replicas=3), second, third)))
        assert (more.predictors[0].replicas, more.predictors[0].ready_replicas) == (3, 3)
        # The same predictor of another image is another server, beside the one that it replaces.
        other = replace(first, image=lab.images[3], replicas=1)
        lab.endpoint.apply(replace(lab.spec, predictors=(other, second, third)))
        mark = len(answers.all)
        answers.wait_for(100)
        assert {value for _, version, value in answers.all[mark + 8 :] if version == "1"} == {3.0}
        lab.endpoint.apply(lab.spec)
    assert answers.failures == []
    assert {code for code, _, _ in answers.all} == {200}
    assert pid_at(lab.status().url) == gateway
    assert len(containers_of(lab.root)) == 5


def test_a_gateway_that_ended_is_restarted_by_the_engine_with_its_weights(lab: Lab) -> None:
    lab.endpoint.set_weights("tiny", {"v3": 1})
    before = lab.status()
    os.kill(pid_at(before.url), signal.SIGKILL)
    eventually(lambda: lab.status().ready, patience=120)
    assert lab.status() == before
    assert {version for _, version, _ in ask(before.url, 30)} == {"3"}
    counts = lab.endpoint.metrics("tiny")
    assert (counts["v3"].requests, counts["v1"].requests) == (30, 0)
    assert counts["v3"].since > 0
    lab.endpoint.set_weights("tiny", {"v1": 30, "v2": 50, "v3": 20})


def test_what_somebody_changed_by_hand_is_reported_and_repaired(lab: Lab) -> None:
    engine, before = Engine(), lab.status()
    assert before.drift == ()
    paused, stopped = lab.container("v1", replica=0), lab.container("v1", replica=1)
    changed, removed = lab.container("v2"), lab.container("v3")
    engine.api.pause(paused["Id"])
    engine.stop(stopped["Id"], grace_seconds=30)
    engine.update(changed["Id"], {"Memory": 400 << 20, "MemorySwap": 400 << 20})
    engine.remove(removed["Id"])
    gateway = container_at(before.url)
    engine.execute(gateway["Id"], ["python3", "-c", _SET_MAP])
    drift = lab.status().drift
    for one, what in ((paused, "is paused"), (stopped, "was stopped"), (removed, "was removed")):
        assert any(one["Name"].lstrip("/") in phrase and what in phrase for phrase in drift), drift
    assert any("the memory of the container" in phrase for phrase in drift), drift
    assert any(phrase.startswith("the gateway's shares are v2 100 %") for phrase in drift), drift
    repaired = lab.endpoint.apply(lab.spec)
    assert repaired.drift == ()
    assert [(one.ready_replicas, one.weight) for one in repaired.predictors] == [(2, 30), (1, 50), (1, 20)]
    assert lab.container("v2")["HostConfig"]["Memory"] == 300 << 20
    assert lab.container("v2")["Id"] == changed["Id"], "it was repaired without a restart"
    assert {version for _, version, _ in ask(repaired.url, 60)} == {"1", "2", "3"}


#: gives all requests to the second slot, as somebody with the socket can
_SET_MAP = """
import socket
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("/run/gateway/haproxy.sock")
    connection.sendall(b"set map plan.map plan 10000:1\\n")
    connection.recv(1000)
"""


def test_its_containers_are_confined_and_need_no_folder_of_this_machine(lab: Lab) -> None:
    found = containers_of(lab.root)
    assert len(found) == 5
    for one in found:
        own = one["HostConfig"]
        assert (own["ReadonlyRootfs"], own["CapDrop"], own["RestartPolicy"]["Name"]) == (
            True,
            ["ALL"],
            "unless-stopped",
        )
        assert {mount["Type"] for mount in one["Mounts"]} <= {"volume"}
        assert not own.get("Binds")
        assert one["Config"]["User"] == "1000:1000"
    server = lab.container("v1")
    assert (server["HostConfig"]["Memory"], server["HostConfig"]["NanoCpus"]) == (300 << 20, 10**9)
    assert server["Config"]["Cmd"] == ["--batch-size", "4", "--threads", "1"]
    assert server["Mounts"][0]["RW"] is False


def test_the_command_lists_stops_and_starts_what_an_engine_serves(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its target is that of its last rollout, or is named."""
    monkeypatch.setenv("MODELWAY_HOME", str(lab.root))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)

    def listed(*words: str) -> list[tuple[str, str, str]]:
        assert main(["endpoint", "list", "--json", *words]) == 0
        return [(each["name"], each["target"], each["state"]) for each in json.loads(capsys.readouterr().out)]

    def call(*words: str) -> str:
        assert main(["endpoint", *words]) == 0
        return capsys.readouterr().out

    assert listed() == []
    assert listed("--target", "docker") == [("tiny", "docker", "answers")]
    store = open_lineage(load_settings().lineage_url)
    store.register(make_record("a", model="tiny"))
    store.begin_rollout(
        RolloutRecord(
            endpoint="tiny", run_id="tiny/r", model="tiny", version=1, state="running", detail={"target": "docker"}
        )
    )
    capsys.readouterr()
    assert listed() == [("tiny", "docker", "answers")]
    assert call("stop", "tiny") == "endpoint tiny is stopped; `modelway endpoint start tiny` brings it back\n"
    assert listed() == [("tiny", "docker", "stopped")]
    assert "tiny stays stopped" in call("up", "--target", "docker")
    assert call("start", "tiny") == f"endpoint tiny serves at {lab.status().url}\n"
    assert listed("--target", "docker") == [("tiny", "docker", "answers")]
    assert call("up", "--target", "docker") == f"endpoint tiny serves at {lab.status().url}\n"
    assert call("up") == "there is no endpoint here\n"


def test_two_airflows_on_one_engine_do_not_see_each_others_endpoints(lab: Lab, tmp_path: Path) -> None:
    other = load_endpoint("docker", root=tmp_path / "endpoints")
    assert other.names() == ()
    (_, second, _) = lab.spec.predictors
    own = other.apply(replace(lab.spec, predictors=(second,), stable="v2"))
    try:
        assert own.url != lab.status().url
        assert [one.name for one in own.predictors] == ["v2"]
        assert lab.endpoint.names() == ("tiny",)
    finally:
        other.delete("tiny")
    assert left_on_engine(tmp_path / "endpoints") == []
    assert {version for _, version, _ in ask(lab.status().url, 60)} == {"1", "2", "3"}


def test_changes_of_two_machines_at_once_both_take_place(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Processes of two machines are distinguished by the lock below the root.
    (tmp_path / "deployment").write_text((lab.root / "deployment").read_text())
    elsewhere = load_endpoint("docker", root=tmp_path / "endpoints")
    assert elsewhere.status("tiny") == lab.status()
    weights = [{"v1": 1, "v2": 1, "v3": 0}, {"v1": 0, "v2": 1, "v3": 1}]
    refused = list[str]()

    def change(endpoint: Endpoint, wanted: Mapping[str, int]) -> None:
        for _ in range(3):
            try:
                endpoint.set_weights("tiny", wanted)
            except EndpointNotReady as error:
                refused.append(str(error))

    threads = [
        threading.Thread(target=change, args=pair) for pair in zip((lab.endpoint, elsewhere), weights, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A change that was overtaken again and again is refused whole.
    assert all("somebody else changed it meanwhile" in text for text in refused), refused
    after = lab.status()
    assert {one.name: one.weight for one in after.predictors} in weights
    assert after.drift == ()
    lab.endpoint.apply(lab.spec)


def test_an_endpoint_that_ends_leaves_the_model_that_another_is_about_to_serve(lab: Lab) -> None:
    engine, deployment = Engine(), (lab.root / "deployment").read_text()
    one, other = (Key(deployment=deployment, endpoint=name) for name in ("one", "other"))
    try:
        prepared = prepare(engine, lab.images[1], model_path="/models", login=None, key=one)
        remove_unused_models(engine, other)
        assert prepared.volume in {volume["Name"] for volume in engine.volumes(one.labels("model"))}
        again = prepare(engine, lab.images[1], model_path="/models", login=None, key=one)
        assert again == prepared
        remove_unused_models(engine, one)
        assert engine.volumes(one.labels()) == engine.containers(one.labels()) == []
    finally:
        Service(engine, one).delete()


def test_what_an_apply_left_that_was_killed_in_its_network_is_deleted(lab: Lab) -> None:
    engine = Engine()
    key = Key(deployment=(lab.root / "deployment").read_text(), endpoint="killed")
    ensure_network(engine, key.name, key.labels())
    engine.api.create_network(f"{key.name}-address", driver="bridge")
    assert len(networks(engine, key.name, key.labels())) == 2
    lab.endpoint.delete("killed")
    assert networks(engine, key.name, key.labels()) == []
    engine.api.create_network(f"{key.name}-address", driver="bridge")
    lab.endpoint.delete("killed")
    assert networks(engine, key.name, key.labels()) == []


def test_a_predictor_of_another_model_says_which_model_it_is(lab: Lab) -> None:
    state = ServerState(name="small", version=7, image="i", model="tiny", model_path="/models", other_model="other")
    key, runnable = Key(deployment="d", endpoint="tiny"), Runnable(image="i", image_id="i")
    assert server_body(key, state, runnable, host="127.0.0.1")["Cmd"] == ["--model", "other"]
    first, second, third = lab.spec.predictors
    lab.endpoint.apply(replace(lab.spec, predictors=(first, second, replace(third, model="other"))))
    with urlopen(f"{lab.status().url}/v2/models/tiny/versions/v3/ready") as answer:
        assert answer.headers["x-model-name"] == "other"
    lab.endpoint.apply(lab.spec)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"cpu": 4000}, "4000 CPU cores requested, the engine's machine has"),
        ({"gpu": 1, "gpu_type": "amd.com/gpu"}, "the target 'docker' knows nvidia.com/gpu only"),
    ],
)
def test_what_the_engines_machine_lacks_is_refused(lab: Lab, resources: dict[str, Any], message: str) -> None:
    before = lab.status()
    first, *others = lab.spec.predictors
    with pytest.raises(CapabilityMissing, match=message):
        lab.endpoint.apply(replace(lab.spec, predictors=(replace(first, resources=resources), *others)))
    assert lab.status() == before


def test_an_engine_elsewhere_serves_at_its_own_address(lab: Lab, tmp_path: Path, bridge: str) -> None:
    elsewhere = load_endpoint("docker", root=tmp_path / "endpoints", client=f"tcp://{bridge}")
    (_, second, _) = lab.spec.predictors
    status = elsewhere.apply(replace(lab.spec, predictors=(second,), stable="v2"))
    try:
        assert status.url.startswith(f"http://{bridge.partition(':')[0]}:")
        assert {answer for answer in ask(status.url, 5)} == {(200, "2", 2.0)}
        assert {answer for answer in ask(status.predictors[0].url, 5)} == {(200, "2", 2.0)}
    finally:
        elsewhere.delete("tiny")
    assert left_on_engine(tmp_path / "endpoints") == []


@pytest.fixture
def bridge() -> Iterator[str]:
    """The engine's socket as another machine reaches it: at a port of an address that is not this machine's own."""
    engine = require_engine(SERVER_IMAGE, GATEWAY_IMAGE)
    if not Path(SOCKET).is_socket():
        pytest.skip(f"the engine is not at {SOCKET}")
    (network, *_) = engine.api.inspect_network("bridge")["IPAM"]["Config"]
    # An engine that has just made its network names no gateway there: it is the first address.
    address = network.get("Gateway") or str(next(ip_network(network["Subnet"]).hosts()))
    with socket.create_server((address, 0)) as server:
        threading.Thread(target=_forward_all, args=(server,), daemon=True).start()
        yield f"{address}:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def _forward_all(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            caller, _ = server.accept()
            threading.Thread(target=_forward_both, args=(caller,), daemon=True).start()


def _forward_both(caller: socket.socket) -> None:
    with caller, socket.socket(socket.AF_UNIX) as engine:
        engine.connect(SOCKET)
        answers = threading.Thread(target=_forward, args=(engine, caller), daemon=True)
        answers.start()
        _forward(caller, engine)
        answers.join()


def _forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@dataclass
class PullingEngine:
    """An engine that has the images of a server and notes with which login it pulls."""

    pulled: list[tuple[str, str | None]] = field(default_factory=list)

    def pull_missing(self, image: str, *, username: str | None = None, password: str | None = None) -> None:
        self.pulled.append((image, username and f"{username}:{password}"))

    def find_image(self, image: str) -> dict[str, Any]:
        return {"Id": "sha256:1", "Config": {"Entrypoint": ["python3", "-m", "modelway.server"]}}


@pytest.mark.parametrize(
    ("image", "login"),
    [("registry.example.com/m", "ci:secret"), ("registry.example.com:444/m", None), ("r.io/m", None)],
)
def test_a_login_is_sent_to_its_own_registry_alone(image: str, login: str | None) -> None:
    engine: Any = PullingEngine()
    own = Login(registry="registry.example.com", username="ci", password="secret")
    found = prepare(engine, f"{image}@{DIGEST}", model_path="/models", login=own, key=Key(deployment="d", endpoint="e"))
    assert (found.image, found.volume, found.own) == (f"{image}@{DIGEST}", None, True)
    assert engine.pulled == [(f"{image}@{DIGEST}", login)]
