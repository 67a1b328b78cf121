"""A unit test starts no program and no server: those that do belong to tests/contract, where time is spent on them."""

import sys
from collections.abc import Iterator

import pytest

#: what Python itself starts when it is asked for the platform or for a library's file
_OF_PYTHON = ("file", "uname", "ldconfig", "gcc", "ld")
_started: list[str] = []


def _notice(event: str, given: tuple[object, ...]) -> None:
    if event == "subprocess.Popen" and str(given[0]).rpartition("/")[2] not in _OF_PYTHON:
        _started.append(f"the program {given[0]}")
    # urllib3 binds this one when it is imported, to see whether there is IPv6.
    if event == "socket.bind" and given[1] != ("::1", 0):
        _started.append(f"a server at {given[1]}")


sys.addaudithook(_notice)


@pytest.fixture(autouse=True)
def starts_nothing() -> Iterator[None]:
    _started.clear()
    yield
    assert not _started, f"a unit test started {', '.join(_started)}: it belongs to tests/contract"
