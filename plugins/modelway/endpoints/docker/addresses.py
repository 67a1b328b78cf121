"""Where an engine is, and by which address the ports that it publishes are reached."""

from urllib.parse import urlsplit

from modelway.platforms.docker.engine import Engine

_HERE = "127.0.0.1"


def default_host(engine: Engine) -> str:
    """Return the address to publish at: of this machine alone where the engine is here, else all of the engine's."""
    return _HERE if _host(engine) is None else "0.0.0.0"


def reachable_at(engine: Engine, *, published: str, address: str | None) -> str:
    """Return the host of the URLs.

    :param published: the address that ports are published at
    :param address: the one that the spec names
    """
    if address:
        return address
    if published not in ("", "0.0.0.0", "::"):
        return published
    return _host(engine) or _HERE


def _host(engine: Engine) -> str | None:
    """Return the host that the engine's address names, None for an engine of this machine."""
    host = urlsplit(engine.address).hostname if "://" in engine.address else None
    return None if host in (None, "localhost", _HERE, "::1") else host
