"""YAML text to plain values with line and column, strict where YAML readers disagree.

Values are read as in YAML 1.2's core schema (``1e-4`` is a number, a date is text). Text that YAML 1.1 reads
differently without quotes (``yes``, ``0755``, ``1_000``, ``1:30``) is refused, and so are tags, merge keys,
duplicate keys and numbers that are not finite. Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from modelway.fields.refusal import KeyPath, shown
from modelway.spec.problems import Place, Problem, dotted

MOST_VALUES = 10_000
MOST_ALIASES = 100
DEEPEST = 20

# libyaml where PyYAML was built with it: ten times as fast, the same events.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_PREFIXED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_AMBIGUOUS_WORD = re.compile(r"yes|no|on|off", re.IGNORECASE)
_AMBIGUOUS_NUMBER = re.compile(r"[-+]?(0[0-9]+|[0-9]+(_[0-9]+)+(\.[0-9]*)?|[0-9]+(:[0-5]?[0-9])+)")

# By parts of the messages of libyaml and, after it, of PyYAML's own parser.
_SYNTAX_HINTS = {
    "alphabetic or numeric character": "Put a value that begins with '*' or '&', such as a cron, in quotes",
    "comment or line break": "Put a value that begins with '>' or '|' in quotes",
    "indentation indicators": "Put a value that begins with '>' or '|' in quotes",
    "cannot start any token": "Indent with spaces, and put a value that begins with '@', '`' or '%' in quotes",
    "mapping values are not allowed": "Check the indentation, and put a value that holds ': ' in quotes",
}


@dataclass(slots=True)
class Node:
    """One value of a document and the place of its start, counted from 1."""

    value: Any  # a scalar, or the nodes of a list or of a mapping
    file: Path
    line: int
    column: int
    size: int = 1  # number of values in it, itself included, aliases expanded
    height: int = 0  # number of levels below it
    keys: dict[str, Place] = field(default_factory=dict)

    def plain(self) -> Any:
        """Return the plain value."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def place(self, path: KeyPath, *, of_key: bool = False) -> Place:
        """Return file, line and column of the value at ``path``, or of its key, or of the nearest value around it."""
        node = self
        for number, part in enumerate(path, start=1):
            if of_key and number == len(path) and part in node.keys:
                return node.keys[str(part)]
            try:
                node = node.value[part]
            except (KeyError, IndexError, TypeError):
                break
        return Place(node.file, node.line, node.column)


class _Unreadable(Exception):
    """Ends the reading of a document; the problem is already recorded."""


class _Reader:
    """Builds nodes from libyaml's events, so that depth and size are checked before memory grows."""

    def __init__(self, text: str, file: Path) -> None:
        self.file = file
        self.events: Iterator[yaml.Event] = iter(_LOADER(text).get_event, None)
        self.anchors: dict[str, Node] = {}
        self.problems: list[Problem] = []
        self.values = 0
        self.aliases = 0

    def note(self, event: yaml.Event, path: KeyPath, what: str, do: str | None = None) -> None:
        line, column = _place(event.start_mark)
        self.problems.append(Problem(file=self.file, line=line, column=column, where=dotted(path), what=what, do=do))

    def stop(self, event: yaml.Event, path: KeyPath, what: str, do: str | None = None) -> NoReturn:
        self.note(event, path, what, do)
        raise _Unreadable

    def document(self) -> Node | None:
        """Return the one document of the text, or None where there is none."""
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        root = self.node(next(self.events), ())
        next(self.events)
        if not isinstance(event := next(self.events), yaml.StreamEndEvent):
            self.stop(event, (), "a second document begins here", "Keep one document in the file")
        return root

    def node(self, event: yaml.Event, path: KeyPath) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, path)
        self.count(event, path, 1)
        self.limit_depth(event, path, 0)
        tag = getattr(event, "tag", None)
        if tag is not None:
            name = shown(str(tag).replace("tag:yaml.org,2002:", "!!"))
            self.note(event, path, f"the YAML tag {name} is not used in model specs", "Remove the tag")
        if isinstance(event, yaml.ScalarEvent):
            line, column = _place(event.start_mark)
            node = Node(self.scalar(event, path), self.file, line, column)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, path)
        else:
            node = self.mapping(event, path)
        if anchor := getattr(event, "anchor", None):
            self.anchors[anchor] = node
        return node

    def count(self, event: yaml.Event, path: KeyPath, number: int) -> None:
        self.values += number
        if self.values > MOST_VALUES:
            self.stop(event, path, f"the file holds more than {MOST_VALUES} values, aliases written out")

    def limit_depth(self, event: yaml.Event, path: KeyPath, height: int) -> None:
        if len(path) + height > DEEPEST:
            self.stop(event, path[:3], f"values are nested more than {DEEPEST} deep")

    def alias(self, event: yaml.AliasEvent, path: KeyPath) -> Node:
        self.aliases += 1
        if self.aliases > MOST_ALIASES:
            self.stop(event, path, f"the file holds more than {MOST_ALIASES} aliases")
        # An anchor is known when its value is complete: an alias inside of its own value finds none.
        node = self.anchors.get(str(event.anchor))
        if node is None:
            self.stop(event, path, f"the alias '*{event.anchor}' has no complete anchor '&{event.anchor}' before it")
        self.count(event, path, node.size)
        self.limit_depth(event, path, node.height)
        return node

    def sequence(self, start: yaml.Event, path: KeyPath) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, (*path, len(items))))
        line, column = _place(start.start_mark)
        return Node(items, self.file, line, column, *_extent(items))

    def mapping(self, start: yaml.Event, path: KeyPath) -> Node:
        items: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, path)
            place = _place(event.start_mark)
            value = self.node(next(self.events), (*path, key if key is not None else "?"))
            if key is None:
                continue
            if key in keys:
                what = f"the key is given twice, first in line {keys[key].line}"
                self.note(event, (*path, key), what, "Keep one of the two")
                continue
            items[key], keys[key] = value, Place(self.file, *place)
        line, column = _place(start.start_mark)
        return Node(items, self.file, line, column, *_extent(items.values()), keys)

    def key(self, event: yaml.Event, path: KeyPath) -> str | None:
        """Return the text of a key, or None after recording a problem."""
        if not isinstance(event, yaml.ScalarEvent):
            self.node(event, (*path, "?"))
            self.note(event, path, "a key must be plain text")
            return None
        text = str(event.value)
        if "\0" in text:
            self.note(event, path, "the key holds the character NUL", "Remove it")
            return None
        if event.implicit[0] and text == "<<":
            self.note(event, path, "'<<' (a YAML merge) is not used in model specs", "Write the keys out")
            return None
        if event.implicit[0] and not isinstance(_resolved(text), str):
            self.note(event, path, f"the key {text or 'nothing'} is not text", "Put it in quotes")
            return None
        return text

    def scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Any:
        text = str(event.value)
        if "\0" in text:
            # PostgreSQL cannot store such a text.
            self.note(event, path, "the text holds the character NUL", "Remove it")
        if not event.implicit[0]:
            return text
        if _AMBIGUOUS_WORD.fullmatch(text):
            do = f'Write {"true" if text.lower() in ("yes", "on") else "false"}, or "{text}" for the text'
            self.note(event, path, f"some YAML readers read {text} as a boolean, others as text", do)
        elif _AMBIGUOUS_NUMBER.fullmatch(text):
            do = f'Write the number plainly, or "{text}" in quotes for text'
            self.note(event, path, "YAML readers disagree on numbers written like this one", do)
        value = _resolved(text)
        if _NOT_FINITE.fullmatch(text) or (isinstance(value, float) and not math.isfinite(value)):
            self.note(event, path, f"{shown(text)} is not a finite number")
        elif len(text) > 100 and _INT.fullmatch(text):
            self.note(event, path, "the number has more than 100 digits")
        return value


def read_document(text: str, *, file: Path) -> tuple[Node | None, tuple[Problem, ...]]:
    """Return the value of a YAML text and its problems as YAML.

    The value is None where the text cannot be used at all: a syntax error, an empty text, a second document,
    too many values, or values nested too deep. The problems then say so.
    """
    reader: _Reader | None = None
    try:
        reader = _Reader(text, file)
        root = reader.document()
    except _Unreadable:
        assert reader is not None
        return None, tuple(reader.problems)
    except yaml.YAMLError as error:
        found = tuple(reader.problems) if reader else ()
        return None, (*found, _syntax_problem(error, text, file))
    if root is None:
        what = "the file holds no value"
        return None, (Problem(file=file, what=what, do=f"Write at least: model: {file.parent.name}"),)
    return root, tuple(reader.problems)


def is_plain_text(text: str) -> bool:
    """Return whether a text without quotes is read as that text by every YAML reader."""
    ambiguous = _AMBIGUOUS_WORD.fullmatch(text) or _AMBIGUOUS_NUMBER.fullmatch(text) or text == "<<"
    return not ambiguous and isinstance(_resolved(text), str)


def _extent(items: Collection[Node]) -> tuple[int, int]:
    """Return size and height of a list or mapping of these values."""
    return 1 + sum(item.size for item in items), max((1 + item.height for item in items), default=0)


def _place(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _resolved(text: str) -> Any:
    """Return the value of a plain (unquoted) scalar by YAML 1.2's core schema."""
    if text[:1].isalpha() and text[0] not in "nNtTfF":
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if len(text) > 100:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "").lower())
    return text


def _syntax_problem(error: yaml.YAMLError, text: str, file: Path) -> Problem:
    line, column, reason = None, None, str(error).splitlines()[0] if str(error) else "cannot be read"
    if isinstance(error, yaml.MarkedYAMLError):
        reason = (error.problem or error.context or reason).strip()
        if mark := error.problem_mark or error.context_mark:
            line, column = _place(mark)
    elif isinstance(error, yaml.reader.ReaderError):
        reason = "the file holds a character that YAML does not allow"
        line, column = _first_forbidden(text)
    do = next((hint for part, hint in _SYNTAX_HINTS.items() if part in reason), None)
    return Problem(file=file, line=line, column=column, what=f"not valid YAML: {reason}", do=do)


def _first_forbidden(text: str) -> tuple[int | None, int | None]:
    match = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    if match is None:
        return None, None
    return text.count("\n", 0, match.start()) + 1, match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
