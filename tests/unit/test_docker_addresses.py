"""Where ports that an engine publishes are reached: pure functions of its address and the spec's section."""

from typing import Any

import pytest
from modelway.endpoints.docker.addresses import default_host, reachable_at
from modelway.errors import SubmitFailed
from modelway.platforms.docker.engine import Engine
from modelway.platforms.docker.networks import free_address


@pytest.mark.parametrize(
    ("engine", "published", "at"),
    [
        ("", "127.0.0.1", "127.0.0.1"),
        ("unix:///var/run/docker.sock", "127.0.0.1", "127.0.0.1"),
        ("npipe:////./pipe/docker_engine", "127.0.0.1", "127.0.0.1"),
        ("tcp://localhost:2375", "127.0.0.1", "127.0.0.1"),
        ("tcp://engine:2376", "0.0.0.0", "engine"),
        ("ssh://ci@engine.example.com", "0.0.0.0", "engine.example.com"),
        ("tcp://10.0.0.7:2376", "0.0.0.0", "10.0.0.7"),
    ],
)
def test_an_engine_elsewhere_publishes_at_all_of_its_addresses(
    monkeypatch: pytest.MonkeyPatch, engine: str, published: str, at: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine)
    assert default_host(Engine()) == published
    assert reachable_at(Engine(), published=published, address=None) == at
    assert default_host(Engine(engine)) == published


def test_what_the_spec_says_comes_first() -> None:
    engine = Engine("tcp://engine:2376")
    assert reachable_at(engine, published="192.0.2.1", address=None) == "192.0.2.1"
    assert reachable_at(engine, published="192.0.2.1", address="models.example.com") == "models.example.com"


def test_addresses_of_a_network_are_given_out_in_order_until_there_is_none() -> None:
    network: Any = {"Name": "n", "IPAM": {"Config": [{"Subnet": "10.9.0.0/29", "Gateway": "10.9.0.1"}]}}
    used: list[str] = []
    for last in range(2, 7):
        used.append(free_address(network, used))
        assert used[-1] == f"10.9.0.{last}"
    with pytest.raises(SubmitFailed, match="the network n has no address left"):
        free_address(network, used)
