"""A real S3 interface on this machine: moto's server, where tests/object_store_environment.py has installed it."""

import importlib.util
import socket
from collections.abc import Iterator
from contextlib import contextmanager

NEEDED = ("moto", "flask", "flask_cors", "s3fs")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
LOGIN = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def own_address(other: str) -> str:
    """Return the address by which the machine ``other`` reaches this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((other, 9))
        return str(asked.getsockname()[0])


@contextmanager
def s3_server(address: str) -> Iterator[str]:
    """Serve S3 at an address of this machine; give the endpoint's URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
