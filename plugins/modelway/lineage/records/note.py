"""The description and the tags of a version, as people write them: what they may be, and the event that has them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from modelway.errors import ModelwayError
from modelway.lineage.records.version import VersionNote

if TYPE_CHECKING:
    from modelway.lineage.records.version import Event

#: the kind of the event
EDITED = "version-edited"
#: characters of a description and of a tag, and how many tags a version has
LONGEST, LONGEST_TAG, MOST_TAGS = 10_000, 100, 50


def note_among(events: "Iterable[Event]") -> VersionNote | None:
    """Return what the newest of some events wrote, newest first; None where none of them did."""
    found = next((each for each in events if each.kind == EDITED), None)
    if found is None:
        return None
    text, tags = str(found.detail.get("description", "")), tuple(map(str, found.detail.get("tags", ())))
    return VersionNote(description=text, tags=tags, at=found.at, actor=found.actor)


def checked_note(description: str, tags: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return a description and tags as they are stored: without blanks around them, each tag once.

    :raises ModelwayError: one is too long, there are too many, a tag has a comma, which separates those that people
        write, or one has a character that no database stores
    """
    text, found = description.strip(), tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if "\0" in text or any("\0" in tag for tag in found):
        raise ModelwayError("a description or a tag has the character U+0000, which no database stores")
    if wrong := next((tag for tag in found if "," in tag), None):
        raise ModelwayError(f"the tag '{wrong[:LONGEST_TAG]}' has a comma: write two tags, or another sign")
    if len(text) > LONGEST:
        raise ModelwayError(f"the description has {len(text):,} characters; at most {LONGEST:,} are stored")
    if len(found) > MOST_TAGS:
        raise ModelwayError(f"there are {len(found)} tags; a version has at most {MOST_TAGS}")
    if long := next((tag for tag in found if len(tag) > LONGEST_TAG), None):
        raise ModelwayError(f"the tag {long[:20]}… has {len(long):,} characters; at most {LONGEST_TAG} are stored")
    return text, found
