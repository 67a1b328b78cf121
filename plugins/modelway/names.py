"""Names that must be safe somewhere else: jobs, folders, images. Pure functions."""

import difflib
import hashlib
import re
from collections.abc import Iterable

MOST_CHARACTERS = 40
#: a model, stage or endpoint name: a DNS label (RFC 1123), valid as a Kubernetes name and in an image repository
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"

_ALIAS = re.compile(r"(?!v?\d+$)[a-z0-9]([-a-z0-9_.]{0,62}[a-z0-9])?")


def is_alias(text: str) -> bool:
    """Return whether a text can name an alias, and is not mistaken for a version: a number, ``v3`` or ``latest``."""
    return text != "latest" and _ALIAS.fullmatch(text) is not None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` was probably meant to be, if one is close."""
    matches = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def slug(text: str, *, limit: int = 40) -> str:
    """Return ``text`` as a file-name- and DNS-safe word of at most ``limit`` characters.

    A digest of the whole text ends the word whenever anything was changed or cut, so that two texts never share a slug.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if plain and plain == text and len(plain) <= limit:
        return plain
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{plain[: limit - 9].strip('-')}-{digest}".lstrip("-")


def job_name(*, model: str, run: str, stage: str, attempt: int) -> str:
    """Return a job's name, a DNS label of at most 63 characters: the same for the same (model, run, stage, attempt)."""
    digest = hashlib.sha256(f"{model}\0{run}\0{stage}".encode()).hexdigest()[:10]
    return f"mw-{slug(model, limit=20)}-{slug(stage, limit=20)}-{digest}-{attempt}"


def endpoint_name(model: str, environment: str) -> str:
    """Return the name of the endpoint of one of several environments."""
    return f"{model}-{environment}"
