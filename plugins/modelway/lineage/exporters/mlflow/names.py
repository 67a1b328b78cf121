"""Names as MLflow accepts them: what it rejects is replaced, and a digest of the whole name keeps two names apart."""

import hashlib
import posixpath
import re

#: MLflow's limit for the keys of parameters, metrics and tags; used for names of models and experiments, too
LONGEST = 250
_REFUSED_IN_KEY = re.compile(r"[^A-Za-z0-9_\-. :/]")
_REFUSED_IN_ALIAS = re.compile(r"[^A-Za-z0-9_-]")
_REFUSED_IN_MODEL = re.compile(r"[/:\0]")


def entity_key(text: str) -> str:
    """Return a name for a parameter, a metric or a tag: letters, digits and ``_-. :/`` that form a plain path."""
    return _marked(text, _REFUSED_IN_KEY.sub("_", text))


def model_name(text: str) -> str:
    """Return a name for a model or an experiment, without slashes and colons."""
    return _marked(text, _REFUSED_IN_MODEL.sub("_", storable(text)))


def alias_name(text: str) -> str:
    """Return a name for an alias: letters, digits, ``_`` and ``-``."""
    name = _REFUSED_IN_ALIAS.sub("_", text)
    return name if name == text else f"{name[: LONGEST - 9]}-{digest(text)}"


def storable(text: str) -> str:
    """Return the text without what databases or JSON reject: NUL, and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def digest(text: str) -> str:
    """Return eight hexadecimal digits that distinguish one text from another."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


class Keys:
    """Keys of one kind within a run: of two names that would become the same, the later one is marked."""

    def __init__(self) -> None:
        self._used: dict[str, str] = {}

    def key(self, *parts: str) -> str:
        """Return the key of a name of several parts, the same for the same parts; empty ones are left out."""
        whole = "\0".join(parts)
        key = entity_key(".".join(part for part in parts if part))
        if self._used.setdefault(key.casefold(), whole) != whole:
            key = f"{key[: LONGEST - 9]}-{digest(whole)}"
            self._used[key.casefold()] = whole
        return key


def _marked(text: str, name: str) -> str:
    is_path = posixpath.normpath(name) == name and name != "." and not name.startswith(("..", "/"))
    if name == text and is_path and name.strip() and len(name) <= LONGEST:
        return name
    plain = name if is_path else re.sub(r"[/.]", "_", name)
    return f"{plain[: LONGEST - 9].strip() or '_'}-{digest(text)}"
