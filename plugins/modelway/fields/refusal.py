"""How a check refuses a value, and how values are shown in messages."""

import re
from collections.abc import Iterable, Mapping, Sequence

from modelway.names import nearest

#: the path to a value from the top of a spec: keys of mappings and indexes of lists
KeyPath = tuple[str | int, ...]

# The login of a URL, or user:password@ without its scheme; searched only from the start of a word: texts may be long.
_LOGIN = re.compile(r"(?<=//)[^\s/]+@|(?<![^\s/@])(?=[^\s/@]*:)[^\s/@]+@")
_LONGEST_SHOWN = 60


class Refusal(ValueError):
    """Raised by a check that refuses a value; the loader adds file, line and key and makes it a ``Problem``."""

    def __init__(
        self,
        what: str,
        *,
        known: Iterable[str] | None = None,
        suggestion: str | None = None,
        given: str | None = None,
        do: str | None = None,
        at: KeyPath = (),
        place: tuple[int, int] | None = None,
    ) -> None:
        """Compose the refusal.

        :param given: the value that was found, to suggest the nearest known one
        :param at: the path from the checked value to its wrong part
        :param place: line and column, where the check itself knows them
        """
        super().__init__(what)
        self.what, self.do, self.at, self.place = what, do, at, place
        self.known = tuple(known) if known is not None else None
        self.suggestion = suggestion
        if suggestion is None and given is not None and self.known:
            self.suggestion = nearest(given, self.known)

    def within(self, key: object) -> "Refusal":
        """Return the same refusal for the container that has the checked value under ``key``."""
        self.at = (key if isinstance(key, str | int) else str(key), *self.at)
        return self


def shown(value: object) -> str:
    """Return a value as it may stand in a message: short, on one line, without the credentials of a URL."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = _LOGIN.sub("***@", value)
        return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…")
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value):
        return "a list"
    text = f"[{', '.join(map(shown, value))}]" if isinstance(value, Sequence) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
