"""A shop in which version 1 serves and version 2 is made, for one test after another: each finds it as it was.

To start an endpoint takes longer than most tests of rollouts. Its processes stay for the next test where it left them
alive; all files besides those of the endpoint are those that the shop was made with.
"""

import json
import shutil
from pathlib import Path

from modelway.errors import ModelwayError

from tests.rollout_shop import Shop

#: facts of a server that differ where another process serves the same
_OF_A_PROCESS = ("pid", "port", "slot", "since", "baseline")


class ServedShop:
    """The home of the shops."""

    def __init__(self, folder: Path) -> None:
        self.home, self._copy = folder / "home", folder / "copy"
        self._versions: dict[int, object] = {}
        self._state: dict[str, object] = {}

    def open(self) -> Shop:
        """Return a shop that nobody has changed; the caller has set ``MODELWAY_HOME``."""
        if self._copy.exists() and self._serves_as_before():
            for path in self.home.iterdir():
                if path.name != "endpoints":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copytree(self._copy, self.home, symlinks=True, dirs_exist_ok=True)
            shop = Shop(self.home)
            shop.versions = dict(self._versions)
            return shop
        return self._make()

    def close(self) -> None:
        """End all processes and remove all files."""
        if self.home.exists():
            self._end_endpoints()
            shutil.rmtree(self.home)
        shutil.rmtree(self._copy, ignore_errors=True)

    def _make(self) -> Shop:
        self.close()
        self.home.mkdir()
        shop = Shop(self.home)
        for number in (1, 2):
            shop.make(number)
        shop.roll_out(1)
        self._versions, self._state = dict(shop.versions), self._read_state()
        self._spec = shop.endpoint.status("tiny").spec()
        shutil.copytree(self.home, self._copy, symlinks=True, ignore=shutil.ignore_patterns("endpoints"))
        return shop

    def _serves_as_before(self) -> bool:
        """Let version 1 alone serve again, and return whether that needed no new gateway and nothing was restarted."""
        try:
            self._end_endpoints(but="tiny")
            if all(self._read_state()[one] == self._state[one] for one in ("gateway", "supervisor_pid")):
                self._endpoint.apply(self._spec)
                return self._read_state() == self._state
        except (ModelwayError, OSError):
            pass
        return False

    @property
    def _endpoint(self):
        return Shop(self.home).endpoint

    def _end_endpoints(self, *, but: str = "") -> None:
        for name in self._endpoint.names():
            if name != but:
                self._endpoint.delete(name)

    def _read_state(self) -> dict[str, object]:
        """Return the endpoint's state without what differs from process to process."""
        state = json.loads((self.home / "endpoints" / "tiny" / "state.json").read_text())
        for server in state["servers"]:
            for fact in _OF_A_PROCESS:
                del server[fact]
        return state
