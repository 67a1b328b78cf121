"""Problems of model specs: what is wrong, at which line and column, which values are known and what to do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from modelway.artifacts.snapshot import snapshot_of
from modelway.errors import InvalidSpec
from modelway.fields.refusal import KeyPath, Refusal, shown


class Place(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: Path
    line: int
    column: int


_PLAIN_KEY = re.compile(r"[\w-]{1,60}")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem of one model spec; ``str()`` is the line for users.

    ``line`` and ``column`` count from 1; ``None`` stands for the file as a whole. ``where`` is the key,
    such as ``train.stages[1].timeout``, and empty without a key. A warning does not make a spec invalid.
    """

    file: Path
    line: int | None = None
    column: int | None = None
    where: str = ""
    what: str
    known: tuple[str, ...] | None = None
    suggestion: str | None = None
    do: str | None = None
    severity: Literal["error", "warning"] = "error"

    @property
    def message(self) -> str:
        """The problem without its place, in sentences."""
        text = f"{self.where}: {self.what}." if self.where else f"{self.what}."
        if self.known is not None:
            text += f" Known: {', '.join(self.known) or 'none'}."
        if self.suggestion:
            text += f" Did you mean '{self.suggestion}'?"
        return f"{text} {self.do.rstrip('.')}." if self.do else text

    def __str__(self) -> str:
        place = display(self.file)
        if self.line is not None:
            place += f":{self.line}:{self.column or 1}"
        return f"{place}  {'warning: ' if self.severity == 'warning' else ''}{self.message}"


def problem_of(refusal: Refusal, *, file: Path, where: str = "", place: tuple[int, int] | None = None) -> Problem:
    """Return a refusal as a problem of ``file``, at ``place`` unless the refusal has its own."""
    line, column = refusal.place or place or (None, None)
    return Problem(
        file=file,
        line=line,
        column=column,
        where=where,
        what=refusal.what,
        known=refusal.known,
        suggestion=refusal.suggestion,
        do=refusal.do,
    )


def display(file: Path) -> str:
    """Return the path as a user writes it: relative to the current folder, or to the snapshot that contains it."""
    if snapshot := snapshot_of(file):
        return str(file.relative_to(snapshot))
    try:
        return str(file.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(file)


def dotted(path: KeyPath) -> str:
    """Return a key path as text, such as ``train.stages[1].timeout``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in path)
    return text.removeprefix(".")


def _key(part: str) -> str:
    return part if _PLAIN_KEY.fullmatch(part) else shown(part)


def counted(number: int, thing: str) -> str:
    """Return a number with its noun, such as ``1 problem`` or ``2 problems``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def render(problems: Sequence[Problem]) -> str:
    """Return all problems as text: a line with their number, then one line each."""
    folders = {problem.file.parent for problem in problems}
    header = f"{counted(len(problems), 'problem')} in {counted(len(folders), 'model spec')}"
    return "\n".join([header, *map(str, problems)])


def invalid_spec(problems: Sequence[Problem]) -> InvalidSpec:
    """Return the one error that lists all problems, to be raised."""
    text = render(problems)
    error = InvalidSpec(text)
    # The text has its own full stops: the base class must not add one.
    error.args = (text,)
    return error
