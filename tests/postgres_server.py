"""A real PostgreSQL of the tests' own: in a folder of its own, over a free port, and killed if a test says so."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "256MB",
    "log_min_messages": "fatal",
}


class PostgresServer:
    """One server; ``url`` names a database in SQLAlchemy's form."""

    def __init__(self, folder: Path, *, bin_folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self._bin, self._settings = folder, bin_folder, settings
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._bin / "postgres"), "-D", str(self.folder), "-p", str(self.port), *options]
        with (self.folder.parent / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(_as_owner(command), stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self._dsn("postgres"), connect_timeout=30).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self.folder.parent / "postgres.log").read_text()[-2000:]
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The process that starts the others."""
        return int((self.folder / "postmaster.pid").read_text().splitlines()[0])

    def kill(self) -> None:
        """End it with SIGKILL, its children too: what was committed must be there when it starts again."""
        os.killpg(os.getpgid(self.pid), signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """Stop it without waiting for its clients or for the disk: its data go with it."""
        if self._process and self._process.poll() is None:
            os.kill(self.pid, signal.SIGQUIT)
            self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(timeout=60)

    def _dsn(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return self._dsn(database)

    def new_database(self, *, template: str = "template1") -> str:
        """Make a copy of a database, by default an empty one, and return its URL."""
        name = f"lineage_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            # A database is only copied while nobody is connected to it.
            ends = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(ends, (template,))
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')  # type: ignore[call-overload]
        return self.url(name)


def _as_owner(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command] if _is_root() else command


def _is_root() -> bool:
    return os.getuid() == 0


def _find_programs() -> Path | None:
    """Return the folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def postgres_server(*, durable: bool = False, folder: Path | None = None) -> Iterator[PostgresServer]:
    """Make a server and remove it with all it holds; where none is installed the test is skipped, on CI it fails.

    :param durable: whether it waits for the disk, as a server must that is measured or may lose its power; what a
        killed one has written is in the kernel all the same
    :param folder: where its data stay, and where a later server finds them; others may read it
    """
    programs = _find_programs()
    if programs is None:
        assert os.environ.get("CI") != "true", "PostgreSQL is not installed"
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    root = folder / "postgres" if folder else Path(tempfile.mkdtemp(prefix="modelway-postgres-"))
    data = root / "data"
    data.mkdir(parents=True, exist_ok=True)
    if _is_root():
        shutil.chown(root, "postgres", "postgres")
        shutil.chown(data, "postgres", "postgres")
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-locale"]
    settings = _SETTINGS | {"fsync": "on" if durable else "off"}
    server = PostgresServer(data, bin_folder=programs, settings=settings)
    try:
        if not (data / "PG_VERSION").exists():
            subprocess.run(_as_owner(initdb), check=True, capture_output=True, cwd="/")
        server.start()
        yield server
    finally:
        server.stop()
        if folder is None:
            shutil.rmtree(root, ignore_errors=True)
