"""A real interface of Google Cloud Storage on this machine, where object_store_environment.py has installed it."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gs_server() -> Iterator[dict[str, str]]:
    """Serve it; give the environment that leads gcsfs there."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    port = server._api._httpd.server_port
    try:
        yield {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
            "GOOGLE_CLOUD_PROJECT": "testing",
            # The emulator has one kind of bucket, and gcsfs would look for a login to ask which.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
    finally:
        server.stop()
