"""Where gateways of this machine listen unless a spec says otherwise, and by which name others reach them.

In a container only some ports are published, and 127.0.0.1 is the container's own: the deployment says both.
"""

import os
import re
import socket

from modelway.errors import ModelwayError, PortTaken

#: the address to listen on; default: this machine alone
HOST = "MODELWAY_ENDPOINT_HOST"
#: the first and last port that gateways may use, such as 8600-8619; default: any free one
PORTS = "MODELWAY_ENDPOINT_PORTS"
#: the name or address in the URLs of gateways that listen on all addresses
ADDRESS = "MODELWAY_ENDPOINT_ADDRESS"
_LOOPBACK = "127.0.0.1"
_ALL = ("0.0.0.0", "::", "*")


def default_host() -> str:
    """Return the address to listen on where the spec names none."""
    return os.environ.get(HOST) or _LOOPBACK


def url_host(host: str) -> str:
    """Return the host in the URL of a gateway that listens on ``host``."""
    return (os.environ.get(ADDRESS) or _LOOPBACK) if host in _ALL else host


def free_port(host: str) -> int:
    """Return a port that nobody uses, of those that the deployment lets gateways use.

    :raises PortTaken: all of them are in use
    :raises ModelwayError: ``MODELWAY_ENDPOINT_PORTS`` is no range
    """
    if not (wanted := os.environ.get(PORTS)):
        return _bound(host, 0)
    for port in _range(wanted):
        try:
            return _bound(host, port)
        except OSError:
            continue
    raise PortTaken(
        f"all ports from {wanted} of {host} are in use",
        where=PORTS,
        do="Name a larger range and publish it, or stop an endpoint: modelway endpoint list",
    )


def _range(text: str) -> range:
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text.strip())
    first, last = (int(each) for each in found.groups()) if found else (0, 0)
    if not 0 < first <= last < 65536:
        raise ModelwayError(f"'{text}' is no range of ports", where=PORTS, do="Write it as 8600-8619")
    return range(first, last + 1)


def _bound(host: str, port: int) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # as HAProxy binds: connections that are still closing do not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen()
        return int(probe.getsockname()[1])
