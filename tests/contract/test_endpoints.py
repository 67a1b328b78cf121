"""Every endpoint keeps these promises, with real images, processes, sockets and gateway."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from modelway.endpoints.base import (
    Endpoint,
    EndpointSpec,
    Predictor,
    ShowsSketches,
    Sticky,
    load_endpoint,
)
from modelway.endpoints.docker.images import SERVER_IMAGE
from modelway.endpoints.gateway import running as gateway_running
from modelway.endpoints.gateway.commands import Command
from modelway.endpoints.gateway.container import GATEWAY_IMAGE
from modelway.endpoints.gateway.routes import Route, Routes
from modelway.endpoints.gateway.runtime_socket import Runtime
from modelway.endpoints.shares import shares
from modelway.errors import (
    CapabilityMissing,
    EndpointNotReady,
    ImageInvalid,
    InvalidSpec,
    NotWritable,
    PortTaken,
)
from modelway.ports import known

from tests.docker_engine import require_engine
from tests.endpoint_clients import (
    ask,
    end_all,
    end_for_good,
    eventually,
    forget,
    left_on_engine,
    listener,
    load,
    pid_at,
    processes_of,
    remove_loaded,
    running,
)
from tests.endpoint_promises import (  # noqa: F401
    Target,
    test_a_new_version_comes_and_goes_many_times_under_load,
    test_a_version_that_cannot_be_loaded_leaves_the_split_as_it_is,
    test_answers_come_from_the_version_that_the_header_names,
    test_apply_twice_changes_nothing,
    test_bad_weights_are_refused,
    test_delete_leaves_no_process,
    test_endpoint_that_is_not_there,
    test_same_version_from_another_image_is_replaced_without_a_gap,
    test_split_is_exact,
    test_stopped_endpoint_comes_back_as_it_was,
    test_two_applies_at_once_come_one_after_the_other,
    test_weights_change_under_load_without_one_failed_request,
)
from tests.tiny_endpoint import build_own_image, tiny_spec
from tests.tiny_model import write_model

#: targets whose promises are tested where their service is started
ELSEWHERE = {
    "cloud_run": "test_google_endpoints.py",
    "kubernetes": "test_kubernetes_endpoint.py",
    "vertex": "test_google_endpoints.py",
}
ONE = Predictor(name="v1", version=1, image="a", weight=1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int | str, str]]:
    """Images of three versions that answer with their number, and one with a broken model."""
    folder = tmp_path_factory.mktemp("images")
    layout = folder / "layout"
    references: dict[int | str, str] = {
        version: build_own_image(write_model(folder / str(version), scale=version), layout) for version in (1, 2, 3)
    }
    broken = write_model(folder / "broken", scale=1)
    (broken / "model" / "model.onnx").write_bytes(b"not a model")
    references["broken"] = build_own_image(broken, layout)
    yield references
    remove_loaded(references.values())


#: the targets that run here; those that need a service of their own are skipped without it
TARGETS = [
    pytest.param(name, marks=[] if name == "local" else pytest.mark.cluster)
    for name in known("endpoints")
    if name not in ELSEWHERE
]


@pytest.fixture(params=TARGETS)
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    """An endpoint in a folder of its own, of which nothing may be left."""
    if request.param == "docker":
        require_engine(SERVER_IMAGE, GATEWAY_IMAGE)
    root = tmp_path / "home folder" / "endpoints"
    found = load_endpoint(request.param, root=root)
    yield found
    found.delete("tiny")
    assert processes_of(root) == []
    assert left_on_engine(root) == []


class Processes:
    """What runs below a folder, and on the engine."""

    requests = 3000
    of_broken = r"(?s)version 4 cannot be served.*ONNX Runtime cannot load it"

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self._endpoint, self._folder = endpoint, folder

    def process_at(self, url: str) -> object:
        return pid_at(url)

    def runs(self, servers: int) -> bool:
        expected = running(self._endpoint, servers=servers) if servers else 0
        return len(processes_of(self._folder)) == expected

    def is_silent(self, url: str) -> bool:
        try:
            ask(url, 1)
        except OSError as error:
            return "refused" in str(error)
        return False


@pytest.fixture
def target(endpoint: Endpoint, tmp_path: Path) -> Target:
    return Processes(endpoint, tmp_path)


@pytest.fixture
def spec(images: dict[int | str, str]) -> Callable[..., EndpointSpec]:
    return partial(tiny_spec, images)


def test_the_counts_of_inputs_and_answers_are_those_of_each_version(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec({1: 1, 2: 1}))
    ask(status.url, 100)
    assert isinstance(endpoint, ShowsSketches)
    sketches = endpoint.sketches("tiny")
    assert [len(documents) for documents in sketches.values()] == [1, 1]
    assert sum(document["rows_seen"] for (document,) in sketches.values()) == 100
    assert {name: document["outputs"][0]["max"] for name, (document,) in sketches.items()} == {"v1": 1.0, "v2": 2.0}


def test_a_user_stays_with_a_version_while_it_grows(endpoint: Endpoint, spec: Callable[..., EndpointSpec]) -> None:
    status = endpoint.apply(spec({1: 80, 2: 20}))
    users = [f"user-{number}" for number in range(200)]
    before = {user: ask(status.url, 1, user=user)[0][1] for user in users}
    assert before == {user: ask(status.url, 1, user=user)[0][1] for user in users}
    assert 10 < sum(version == "2" for version in before.values()) < 80
    endpoint.set_weights("tiny", {"v1": 50, "v2": 50})
    after = {user: ask(status.url, 1, user=user)[0][1] for user in users}
    assert all(after[user] == "2" for user in users if before[user] == "2")
    assert 60 < sum(version == "2" for version in after.values()) < 140


def test_a_killed_canary_costs_what_it_had_and_nothing_else(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec({1: 50, 2: 50}))
    stable, canary = (pid_at(one.url) for one in status.predictors)
    with load(status.url, clients=4) as answers:
        answers.wait_for(200)
        os.kill(canary, signal.SIGKILL)
        answers.wait_for(400)
        mark = len(answers.all)
        # its successor
        eventually(lambda: "2" in {version for _, version, _ in answers.all[mark:]})
    assert answers.failures == []
    lost = [code for code, _, _ in answers.all if code != 200]
    # those on their way while it died: the kernel takes connections for it until its last moment
    assert set(lost) <= {502}
    assert len(lost) <= 12
    healed = endpoint.status("tiny")
    assert healed is not None
    assert [(one.restarts, one.problem) for one in healed.predictors] == [(0, ""), (1, "")]
    assert pid_at(healed.predictors[0].url) == stable
    metrics = endpoint.metrics("tiny")
    assert metrics["v2"].server_errors == len(lost)
    assert len(lost) <= metrics["v2"].errors <= metrics["v2"].requests
    assert metrics["v1"].errors == 0


def test_a_server_that_answers_late_is_still_ready_and_a_stuck_one_is_not(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec({1: 50, 2: 50}))
    canary = psutil.Process(pid_at(status.predictors[1].url))
    canary.suspend()
    late = threading.Timer(2, canary.resume)
    late.start()
    assert endpoint.status("tiny") == status
    late.join()
    canary.suspend()
    stuck = endpoint.status("tiny")
    assert stuck is not None
    assert [one.ready for one in stuck.predictors] == [True, False]
    canary.resume()


def test_a_server_that_is_requested_to_end_under_load_loses_no_request(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec({1: 50, 2: 50}))
    canary = psutil.Process(pid_at(status.predictors[1].url))
    with load(status.url) as answers:
        answers.wait_for(200)
        canary.terminate()
        eventually(lambda: not canary.is_running() or canary.status() == psutil.STATUS_ZOMBIE)
        mark = len(answers.all)
        # its successor
        eventually(lambda: "2" in {version for _, version, _ in answers.all[mark:]})
    assert answers.failures == []
    assert {code for code, _, _ in answers.all} == {200}


@pytest.mark.parametrize("state", ["kept", "lost"])
def test_after_everything_was_killed_apply_restores_it(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], tmp_path: Path, state: str
) -> None:
    wanted = spec({1: 70, 2: 30})
    before = endpoint.apply(wanted)
    if state == "kept":
        end_all(tmp_path)
        down = endpoint.status("tiny")
        assert down is not None
        assert not down.ready
    else:
        # the processes are still there, but nobody remembers them: they must not be left beside new ones
        forget(tmp_path)
    after = endpoint.apply(wanted)
    assert after.ready
    assert [(one.version, one.weight) for one in after.predictors] == [(1, 70), (2, 30)]
    assert state == "lost" or after.url == before.url
    assert {version for _, version, _ in ask(after.url, 100)} == {"1", "2"}
    assert len(processes_of(tmp_path)) == running(endpoint, servers=2)


def test_a_killed_gateway_comes_back_with_its_weights(endpoint: Endpoint, spec: Callable[..., EndpointSpec]) -> None:
    status = endpoint.apply(spec({1: 100, 2: 0}))
    servers = [pid_at(one.url) for one in status.predictors]
    end_for_good(status.url)
    with pytest.raises(EndpointNotReady, match="does not answer"):
        endpoint.metrics("tiny")
    changed = endpoint.set_weights("tiny", {"v2": 1})
    assert changed.ready
    assert changed.url == status.url
    assert {version for _, version, _ in ask(changed.url, 50)} == {"2"}
    assert [pid_at(one.url) for one in changed.predictors] == servers


def test_apply_finishes_what_a_killed_apply_began(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], tmp_path: Path
) -> None:
    status = endpoint.apply(spec({1: 100}))
    child = os.fork()
    if child == 0:
        # not over the connections of this process
        again(endpoint, tmp_path).apply(spec({1: 50, 2: 50}))
        os._exit(0)
    eventually(lambda: len(processes_of(tmp_path)) >= running(endpoint, servers=2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert {version for _, version, _ in ask(status.url, 20)} <= {"1", "2"}
    healed = endpoint.apply(spec({1: 50, 2: 50}))
    assert healed.ready
    assert {version for _, version, _ in ask(healed.url, 100)} == {"1", "2"}
    assert len(processes_of(tmp_path)) == running(endpoint, servers=2)


def test_a_change_that_the_gateway_refuses_leaves_the_split_as_it_is(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = endpoint.apply(spec({1: 100}))

    def late(stats: object, routes: Routes) -> list[Route]:
        return [route for route in routes.wanted if route.weight and route.name == "v2"]

    def wait_up(self: object, routes: Routes) -> None:
        if late(None, routes):
            raise EndpointNotReady("the gateway finds v2 not ready")

    with monkeypatch.context() as fault:
        fault.setattr(gateway_running, "_late", late)
        fault.setattr(gateway_running.RunningGateway, "wait_up", wait_up)
        with pytest.raises(EndpointNotReady, match="finds v2 not ready"):
            endpoint.apply(spec({1: 50, 2: 50}))
    assert endpoint.status("tiny") == before
    assert {version for _, version, _ in ask(before.url, 20)} == {"1"}
    assert len(processes_of(tmp_path)) == running(endpoint, servers=1)
    both = endpoint.apply(spec({1: 100, 2: 0}))
    send, sent = Runtime.run, list[object]()

    def refuse(self: Runtime, commands: Sequence[Command]) -> object:
        # The first change of the shares alone: those by which the split is restored are accepted.
        if any(text.startswith("prepare map") for text, _ in commands) and not sent:
            sent.append(commands)
            raise EndpointNotReady("HAProxy refused it")
        return send(self, commands)

    # Another key starts the gateway anew, and so does the return from it.
    other = replace(spec({1: 50, 2: 50}), sticky=Sticky(header="x-account"))
    for change in (lambda: endpoint.set_weights("tiny", {"v1": 50, "v2": 50}), lambda: endpoint.apply(other)):
        sent.clear()
        with monkeypatch.context() as fault:
            fault.setattr(Runtime, "run", refuse)
            with pytest.raises(EndpointNotReady, match="HAProxy refused it"):
                change()
        assert endpoint.status("tiny") == both
        assert {version for _, version, _ in ask(before.url, 20)} == {"1"}


def test_port_of_another_program_is_refused_and_nothing_is_left(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        holder = rf".*process {os.getpid()}" if kind_of(endpoint) == "local" else "another program"
        with pytest.raises(PortTaken, match=rf"port {port} of 127.0.0.1 is used by {holder}"):
            endpoint.apply(spec({1: 1}, port=port))
    assert processes_of(tmp_path) == []
    status = endpoint.apply(spec({1: 1}, port=port))
    assert status.url == f"http://127.0.0.1:{port}"


def test_a_remembered_port_that_is_lost_is_replaced_unless_it_was_named(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    before = endpoint.apply(spec({1: 1}))
    port = int(before.url.rpartition(":")[2])
    end_for_good(before.url)
    with listener(port):
        with pytest.raises(PortTaken):
            endpoint.apply(spec({1: 1}, port=port))
        after = endpoint.apply(spec({1: 1}))
    assert after.ready
    assert after.url != before.url


def test_folder_that_cannot_be_written_is_refused(endpoint: Endpoint, spec: Callable[..., EndpointSpec]) -> None:
    with pytest.raises(NotWritable, match="/proc/none"):
        load_endpoint(kind_of(endpoint), root=Path("/proc/none/endpoints")).apply(spec({1: 1}))


def test_image_without_the_model_folder_is_refused(endpoint: Endpoint, spec: Callable[..., EndpointSpec]) -> None:
    (predictor,) = spec({1: 1}).predictors
    wrong = replace(spec({1: 1}), predictors=(replace(predictor, model_path="/elsewhere"),))
    with pytest.raises(ImageInvalid, match="there is no folder /elsewhere"):
        endpoint.apply(wrong)


def test_a_version_whose_model_lies_elsewhere_in_its_image_serves_beside_one_of_before(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], tmp_path: Path
) -> None:
    endpoint.apply(spec({1: 100}))
    image = build_own_image(write_model(tmp_path / "moved", scale=4), tmp_path / "layout", path="/srv/model")
    moved = Predictor(name="v4", version=4, image=image, weight=50, model_path="/srv/model")
    before = endpoint.apply(replace(spec({1: 50}), predictors=(*spec({1: 50}).predictors, moved)))
    assert [(one.version, one.model_path, one.ready) for one in before.predictors] == [
        (1, "/models", True),
        (4, "/srv/model", True),
    ]
    endpoint.stop("tiny")
    after = endpoint.start("tiny")
    assert after.ready
    assert after.spec() == before.spec()
    endpoint.delete("tiny")
    remove_loaded([image])


def test_port_that_was_taken_while_it_was_stopped_is_replaced(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    before = endpoint.apply(spec({1: 1}))
    endpoint.stop("tiny")
    with listener(int(before.url.rpartition(":")[2])):
        again = endpoint.apply(spec({1: 1}))
    assert again.ready
    assert again.url != before.url


def test_servers_see_none_of_the_starters_secrets(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    endpoint.apply(spec({1: 1}))
    for process in processes_of(tmp_path):
        assert not [name for name, value in process.environ().items() if "AIRFLOW" in name or value == "secret"]
        assert process.pid == os.getsid(process.pid)


def test_misspelt_endpoint_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CapabilityMissing, match="'locl' is not an endpoint target.*Did you mean 'local'"):
        load_endpoint("locl", root=tmp_path)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({1: 100}, {1: 10_000}),
        ({1: 1, 2: 1, 3: 1}, {1: 3334, 2: 3333, 3: 3333}),
        ({1: 995, 2: 5}, {1: 9950, 2: 50}),
        ({1: 90, 2: 10, 3: 0}, {1: 9000, 2: 1000, 3: 0}),
        ({1: 10**9, 2: 1}, {1: 9999, 2: 1}),
        ({1: 10**9, 2: 1, 3: 1, 4: 0}, {1: 9998, 2: 1, 3: 1, 4: 0}),
        ({7: 2, 8: 1}, {7: 6667, 8: 3333}),
    ],
)
def test_shares_add_up_by_largest_remainder(weights: dict[int, int], expected: dict[int, int]) -> None:
    assert shares(weights) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Tiny"}, "'Tiny' is not a name"),
        ({"name": "../up"}, "is not a name"),
        ({"name": "tiny\n"}, "is not a name"),
        ({"predictors": ()}, "0 predictors"),
        ({"predictors": (replace(ONE, name="Small"),)}, "'Small' is not a name"),
        ({"predictors": (replace(ONE, replicas=0),)}, "predictor v1: 0 replicas"),
        ({"predictors": (replace(ONE, replicas=9),)}, "predictor v1: 9 replicas, there are 8 at most here"),
        ({"sticky": Sticky(cookie="who")}, "sticky: exactly one of header and cookie"),
        ({"sticky": Sticky(header="x user")}, "sticky: 'x user' is not a name"),
        ({"sticky": Sticky(header="x-user\n")}, "is not a name"),
        ({"stable": "v5"}, "stable: 'v5' is not a predictor"),
        ({"platform": {"port": 70000}}, "port: .*less than or equal to 65535"),
        ({"platform": {"host": "two words"}}, "host: 'two words' is not a host"),
        ({"platform": {"prot": 80}}, "prot: unknown key.*Did you mean 'port'"),
        (
            {"predictors": (ONE, replace(ONE, image="b"))},
            "two predictors have the same name: v1, v1",
        ),
        ({"predictors": (replace(ONE, weight=0),)}, "all weights are zero"),
        ({"predictors": (replace(ONE, weight=-1),)}, "integer >= 0, got -1"),
    ],
)
def test_specs_that_cannot_be_are_refused(endpoint: Endpoint, change: dict[str, object], message: str) -> None:
    good = EndpointSpec(name="tiny", model="tiny", predictors=(ONE,))
    with pytest.raises(InvalidSpec, match=message):
        endpoint.apply(replace(good, **change))  # type: ignore[arg-type]


def kind_of(endpoint: Endpoint) -> str:
    return type(endpoint).__module__.split(".")[2]


def again(endpoint: Endpoint, folder: Path) -> Endpoint:
    """The same endpoint as another process opens it."""
    return load_endpoint(kind_of(endpoint), root=folder / "home folder" / "endpoints")
