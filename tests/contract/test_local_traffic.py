"""Real traffic through the endpoint of this machine: exact shares, several servers, users that stay, drift."""

import http.client
import math
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import grpc
import psutil
import pytest
from modelway.endpoints.base import Endpoint, EndpointSpec, EndpointStatus, Mirror, Predictor, Sticky, load_endpoint
from modelway.endpoints.gateway.runtime_socket import Runtime, socket_path, unix_socket
from modelway.errors import CapabilityMissing

from tests.endpoint_clients import BODY, Client, ask, eventually, load, pid_at, processes_of
from tests.inference_messages import SERVICE, message, parsed
from tests.tiny_endpoint import build_image
from tests.tiny_model import WIDTH, write_model

#: passed by chance once in a thousand, for 2 degrees of freedom; the users are always the same, so that chance is past
CHI_SQUARE_OF_ONE_IN_A_THOUSAND = 13.82


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "endpoints"


@pytest.fixture(scope="module")
def images(root: Path) -> dict[int, str]:
    """Images of models that answer with their number."""
    return {
        scale: build_image(write_model(root.parent / str(scale), scale=scale), root.parent / "layout")
        for scale in (1, 2, 3)
    }


@pytest.fixture
def endpoint(root: Path) -> Iterator[Endpoint]:
    found = load_endpoint("local", root=root)
    yield found
    found.delete("tiny")
    assert processes_of(root) == []


@pytest.fixture
def spec(images: dict[int, str]) -> Callable[..., EndpointSpec]:
    """Versions 1 and 2 of the endpoint's model, and version 7 of another one."""

    def make(*weights: int, **more: object) -> EndpointSpec:
        predictors = (
            Predictor(name="v1", version=1, image=images[1], weight=0),
            Predictor(name="v2", version=2, image=images[2], weight=0),
            Predictor(name="small", version=7, model="other", image=images[3], weight=0),
        )
        chosen = tuple(replace(each, weight=weight) for each, weight in zip(predictors, weights, strict=False))
        return EndpointSpec(name="tiny", model="tiny", predictors=chosen, stable="v1", **more)  # type: ignore[arg-type]

    return make


def status_of(endpoint: Endpoint) -> EndpointStatus:
    status = endpoint.status("tiny")
    assert status is not None
    return status


def ask_as(url: str, users: range) -> Counter[str | None]:
    """Ask once as each user and count the answers by version."""

    def run(share: range) -> Counter[str | None]:
        client = Client(url)
        try:
            return Counter(version for _, version, _ in (client.ask(f"user-{number}") for number in share))
        finally:
            client.close()

    with ThreadPoolExecutor(4) as asking:
        return sum(asking.map(run, (users[start::4] for start in range(4))), Counter())


def test_three_predictors_of_two_models_get_exactly_their_shares(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec(30, 50, 20))
    counts = ask_as(status.url, range(20_000))
    expected = {"1": 6000, "2": 10_000, "7": 4000}
    assert counts.total() == 20_000
    assert sum((counts[version] - n) ** 2 / n for version, n in expected.items()) < CHI_SQUARE_OF_ONE_IN_A_THOUSAND
    metrics = endpoint.metrics("tiny")
    assert {name: one.requests for name, one in metrics.items()} == {
        **{"v1": counts["1"], "v2": counts["2"], "small": counts["7"]}
    }
    assert sum(one.errors for one in metrics.values()) == 0
    for one in metrics.values():
        assert sum(one.latency.values()) == one.requests
        assert list(one.latency)[-1] == math.inf


def test_a_predictor_of_another_model_has_a_url_of_its_own_and_says_which_model_it_is(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec(1, 1, 0))
    for name, version, model in (("small", "7", "other"), ("v2", "2", None), ("2", "2", None)):
        connection = http.client.HTTPConnection(status.url.removeprefix("http://"), timeout=30)
        connection.request("POST", f"/v2/models/tiny/versions/{name}/infer", BODY)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert (answer.status, answer.getheader("x-model-version")) == (200, version)
        assert answer.getheader("x-model-name") == model
    with urlopen(f"{status.url}/v2/models/tiny/versions/small") as answer:
        assert answer.status == 200


def test_grpc_goes_through_the_gateway_by_the_same_weights_and_counts(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec(1, 3))
    tensor = message("InferInputTensor", name="x", datatype="FP32", shape=[1, WIDTH])
    fields = {"model_name": "tiny", "inputs": [tensor]}
    content = message("ModelInferRequest", **fields, raw_input_contents=[b"\0" * 4 * WIDTH]).SerializeToString()
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(status.url.removeprefix("http://"), options=options) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        counts: Counter[str] = Counter()
        for number in range(200):
            answer, call = infer.with_call(content, timeout=60, metadata=[("x-user", f"user-{number}")])
            version = dict(call.initial_metadata())["x-model-version"]
            assert parsed("ModelInferResponse", answer).model_version == version
            counts[version] += 1
        # the user's bucket is that of REST
        assert counts == ask_as(status.url, range(200))
        with pytest.raises(grpc.RpcError) as caught:
            infer(b"\xff", timeout=60)
        assert caught.value.code().name == "INVALID_ARGUMENT"  # type: ignore[attr-defined]
        endpoint.set_weights("tiny", {"v2": 1})
        _, call = infer.with_call(content, timeout=60)
        assert dict(call.initial_metadata())["x-model-version"] == "2"
    metrics = endpoint.metrics("tiny")
    assert sum(one.requests for one in metrics.values()) == 402
    assert all((one.errors, one.call_errors) == (0, 0) for one in metrics.values())


def test_the_weights_change_two_hundred_times_without_a_failed_request(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec(50, 50))
    gateway = pid_at(status.url)
    with load(status.url) as answers:
        for number in range(200):
            endpoint.set_weights("tiny", {"v1": number % 100 + 1, "v2": 99 - number % 100})
        answers.wait_for(1)
    assert answers.failures == []
    assert {code for code, _, _ in answers.all} == {200}
    assert {version for _, version, _ in answers.all} == {"1", "2"}
    assert pid_at(status.url) == gateway


def test_the_servers_of_a_predictor_change_their_number_and_are_replaced_without_a_failed_request(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], root: Path
) -> None:
    one = spec(100)
    (predictor,) = one.predictors
    status = endpoint.apply(one)
    first, gateway = pid_at(status.predictors[0].url), pid_at(status.url)
    with load(status.url) as answers:
        for change in (
            {"replicas": 3},
            {"replicas": 3, "batching": {"rows": 1}, "resources": {"cpu": 1.5}},
            {"replicas": 1, "batching": {"rows": 1}, "resources": {"cpu": 1.5}},
        ):
            answers.wait_for(50)
            (found,) = endpoint.apply(replace(one, predictors=(replace(predictor, **change),))).predictors
            assert (found.replicas, found.ready_replicas) == (change["replicas"], change["replicas"])
            if change == {"replicas": 3}:
                assert psutil.pid_exists(first), "a server that is as it should be stays"
        answers.wait_for(50)
    assert answers.failures == []
    assert {code for code, _, _ in answers.all} == {200}
    assert pid_at(status.url) == gateway
    (left,) = (each.cmdline() for each in _servers(root))
    assert [left[left.index(option) + 1] for option in ("--batch-size", "--threads")] == ["1", "2"]


def test_apply_finishes_what_a_killed_apply_of_several_servers_began(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], root: Path
) -> None:
    one = spec(100)
    status = endpoint.apply(one)
    more = replace(one, predictors=(replace(one.predictors[0], replicas=3),))
    child = os.fork()
    if child == 0:
        endpoint.apply(more)
        os._exit(0)
    eventually(lambda: len(_servers(root)) >= 2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert {code for code, _, _ in ask(status.url, 20)} == {200}
    assert endpoint.apply(more).predictors[0].ready_replicas == 3
    assert len(_servers(root)) == 3
    assert endpoint.apply(one).predictors[0].ready_replicas == 1
    assert len(_servers(root)) == 1


def _servers(root: Path) -> list[psutil.Process]:
    return [process for process in processes_of(root) if "--model-dir" in process.cmdline()]


def test_a_killed_server_of_several_costs_what_it_had_and_the_others_answer(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    one = spec(100)
    status = endpoint.apply(replace(one, predictors=(replace(one.predictors[0], replicas=3),)))
    with load(status.url, clients=4) as answers:
        answers.wait_for(200)
        os.kill(pid_at(status.predictors[0].url), signal.SIGKILL)
        answers.wait_for(400)
        eventually(lambda: status_of(endpoint).predictors[0].ready_replicas == 3)
        mark = len(answers.all)
        answers.wait_for(100)
    assert answers.failures == []
    lost = [code for code, _, _ in answers.all if code != 200]
    assert set(lost) <= {502}
    # those on their way while it died
    assert len(lost) <= 12
    assert {code for code, _, _ in answers.all[mark:]} == {200}
    (found,) = status_of(endpoint).predictors
    assert (found.restarts, found.ready) == (1, True)
    metrics = endpoint.metrics("tiny")["v1"]
    assert (metrics.server_errors, metrics.rerouted) == (len(lost), 0)


def test_all_servers_of_the_stable_predictor_answer_for_one_that_is_down(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], root: Path
) -> None:
    pair = spec(50, 50)
    stable, canary = pair.predictors
    status = endpoint.apply(replace(pair, predictors=(replace(stable, replicas=2), canary)))
    # so that nothing starts it again
    (supervisor,) = (each for each in processes_of(root) if "modelway.endpoints.local.supervisor" in each.cmdline())
    supervisor.kill()
    os.kill(pid_at(status.predictors[1].url), signal.SIGKILL)
    eventually(lambda: not status_of(endpoint).predictors[1].ready)
    eventually(lambda: {version for _, version, _ in ask(status.url, 10)} == {"1"})
    assert {code for code, _, _ in ask(status.url, 40)} == {200}
    rows = runtime_of(root).stats()
    slot = f"slot{slot_of(root, 'v2')}"
    assert all(int(rows[slot, f"stable{replica}"]["stot"]) > 0 for replica in (0, 1))
    assert endpoint.metrics("tiny")["v2"].rerouted > 0


def runtime_of(root: Path) -> Runtime:
    return Runtime(unix_socket(socket_path(root / "tiny")))


def slot_of(root: Path, name: str) -> str:
    (folder,) = (root / "tiny").glob(f"{name}-?")
    return folder.name.rpartition("-")[2]


class Browser:
    """A user with a cookie."""

    def __init__(self, url: str) -> None:
        self.url, self.cookie = url.removeprefix("http://"), ""

    def ask(self) -> str | None:
        connection = http.client.HTTPConnection(self.url, timeout=30)
        connection.request("POST", "/v2/models/tiny/infer", BODY, {"cookie": self.cookie} if self.cookie else {})
        answer = connection.getresponse()
        answer.read()
        if (found := answer.getheader("set-cookie")) is not None:
            assert not self.cookie, "a user who has the cookie gets no other one"
            assert found.endswith("; Path=/; HttpOnly; SameSite=Lax")
            self.cookie = found.partition(";")[0]
        connection.close()
        return answer.getheader("x-model-version")


def test_a_user_with_the_gateways_cookie_stays_with_a_version_while_it_grows(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec]
) -> None:
    status = endpoint.apply(spec(80, 20, sticky=Sticky(header=None, cookie="who")))
    assert status.sticky.cookie == "who"
    users = [Browser(status.url) for _ in range(100)]
    before = [user.ask() for user in users]
    assert all(user.cookie.startswith("who=") for user in users)
    assert len({user.cookie for user in users}) == 100
    assert [user.ask() for user in users] == before
    assert 0 < before.count("2") < 60
    endpoint.set_weights("tiny", {"v1": 50, "v2": 50})
    after = [user.ask() for user in users]
    assert all(new == "2" for old, new in zip(before, after, strict=True) if old == "2")
    assert after.count("2") > before.count("2")


def test_another_sticky_key_takes_effect(endpoint: Endpoint, spec: Callable[..., EndpointSpec]) -> None:
    before = endpoint.apply(spec(50, 50))
    assert len({version for _, version, _ in ask(before.url, 40, user="mia")}) == 1
    after = endpoint.apply(spec(50, 50, sticky=Sticky(header="x-account")))
    assert after.url == before.url
    assert {version for _, version, _ in ask(after.url, 40, user="mia")} == {"1", "2"}
    assert status_of(endpoint).sticky == Sticky(header="x-account")


def test_what_is_changed_by_hand_is_seen_and_removed_by_the_next_apply(
    endpoint: Endpoint, spec: Callable[..., EndpointSpec], root: Path
) -> None:
    wanted = spec(90, 10)
    endpoint.apply(wanted)
    assert status_of(endpoint).drift == ()
    runtime, stable, canary = runtime_of(root), slot_of(root, "v1"), slot_of(root, "v2")
    runtime.send(f"set map plan.map plan 5000:{stable}:10000:{canary}")
    runtime.send(f"set server slot{canary}/main0 state maint")
    runtime.send(f"set server slot{stable}/main1 state ready")
    runtime.send(f"set server slot{stable}/main0 weight 50")
    runtime.send(f"set server pinned{stable}/main0 addr 127.0.0.1 port 9")
    shares, *servers = status_of(endpoint).drift
    assert shares == "the gateway's shares are v1 50 %, v2 50 %, and those that were applied v1 90 %, v2 10 %"
    named = {each.split()[1].rstrip(","): each.partition(", of ")[2] for each in servers}
    port = status_of(endpoint).predictors[0].url.rpartition(":")[2]
    assert named == {
        f"slot{canary}/main0": "v2, was changed (maint, weight 1)",
        f"slot{stable}/main0": "v1, was changed (up, weight 50)",
        f"slot{stable}/main1": "v1, was put into use",
        f"pinned{stable}/main0": f"v1, has the address 127.0.0.1:9 and not 127.0.0.1:{port}",
    }
    assert endpoint.apply(wanted).ready
    assert status_of(endpoint).drift == ()
    assert {code for code, _, _ in ask(status_of(endpoint).url, 40)} == {200}


def test_what_this_target_cannot_do_is_refused_by_name(endpoint: Endpoint, spec: Callable[..., EndpointSpec]) -> None:
    with pytest.raises(CapabilityMissing, match=r"the target 'local' does not have copies of requests \(mirror\)"):
        endpoint.apply(spec(50, 50, mirror=Mirror(predictor="v2")))
    assert endpoint.status("tiny") is None
