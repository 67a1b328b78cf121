"""The state of a local endpoint, as it is written now and as earlier versions wrote it."""

import json
from pathlib import Path

import pytest
from modelway.endpoints.base import Sticky
from modelway.endpoints.local.state import State, read_state, write_state

EARLIER = {
    **{"name": "digits", "host": "127.0.0.1", "port": 40_001, "stable": 1, "gateway_pid": 12},
    **{"gateway_life": {"restarts": 1, "ends": [], "problem": "", "given_up": False}},
    **{"supervisor_pid": 13, "stopped": False},
    "servers": [
        {
            **{"version": 1, "image": "oci-layout:/images@sha256:aa", "model": "digits", "model_path": "/models"},
            **{"slot": 0, "weight": 100, "pid": 14, "port": 40_002, "wanted": True, "baseline": {}, "since": 5.0},
            **{"image_root": "/home/images/aa", "life": {"restarts": 0, "ends": [], "problem": "", "given_up": False}},
        }
        | changed
        for changed in ({"version": 2, "slot": 1, "port": 40_003}, {})
    ],
}


@pytest.mark.parametrize("named", [True, False])
def test_a_state_of_an_earlier_version_is_read_with_its_address(tmp_path: Path, named: bool) -> None:
    (tmp_path / "state.json").write_text(json.dumps({**EARLIER, "port_named": named}))
    state = read_state(tmp_path)
    assert state is not None
    assert (state.gateway.url, state.gateway.pid) == ("http://127.0.0.1:40001", 12)
    assert state.platform == {"host": "127.0.0.1", "port": 40_001 if named else None}
    assert (state.gateway_life.restarts, state.servers[0].url) == (1, "http://127.0.0.1:40002")
    assert (state.stable, [server.name for server in state.servers]) == ("v1", ["v1", "v2"])


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    sticky = Sticky(header=None, cookie="who")
    write_state(tmp_path, State(name="digits", stable="v2", sticky=sticky, platform={"host": "127.0.0.1"}))
    state = read_state(tmp_path)
    assert state is not None
    assert (state.name, state.stable, state.platform) == ("digits", "v2", {"host": "127.0.0.1"})
    assert state.sticky == sticky
    assert read_state(tmp_path / "other") is None
