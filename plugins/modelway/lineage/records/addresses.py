"""Addresses without their secrets, to be shown to others."""

from urllib.parse import urlsplit, urlunsplit


def public_address(uri: str) -> str:
    """Return a URI without login and password; of one on the web also without its query, which may be a signature."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri.rpartition("@")[2]
    netloc = parts.netloc.rpartition("@")[2]
    query, fragment = ("", "") if parts.scheme in ("http", "https") else (parts.query, parts.fragment)
    if (netloc, query, fragment) == (parts.netloc, parts.query, parts.fragment):
        # As it was written: a file's three slashes would not survive.
        return uri
    return urlunsplit((parts.scheme, netloc, parts.path, query, fragment))
