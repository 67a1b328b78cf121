"""Which certificates a registry's own is checked by, and which one this machine shows it."""

import ssl
from pathlib import Path

import certifi

from modelway.errors import RegistryRefused

#: where Docker reads the certificates of single registries from
FOLDERS = (Path("/etc/docker/certs.d"), Path("/etc/containers/certs.d"))


def ssl_context(host: str) -> ssl.SSLContext:
    """Return the settings of TLS for a registry.

    Trusted are ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, else this machine's certificates, and those that Docker has for
    the registry: ``/etc/docker/certs.d/<host>/*.crt``, with a client's ``*.cert`` and ``*.key``.

    :param host: host and port, as they stand in a reference
    :raises RegistryRefused: a certificate of the registry cannot be read
    """
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    for folder in (each / host for each in FOLDERS):
        try:
            for path in sorted(folder.glob("*.crt")):
                context.load_verify_locations(path)
            for path in sorted(folder.glob("*.cert")):
                context.load_cert_chain(path, path.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise RegistryRefused(
                f"a certificate cannot be read ({error.strerror or error})", where=str(folder), do="Repair or remove it"
            ) from error
    return context
