"""The names that aliases may have."""

from modelway.errors import ModelwayError
from modelway.names import is_alias


def check_alias(alias: str) -> None:
    """Reject a name that reads like a version.

    :raises ModelwayError: the alias reads like a version number, or is ``latest``
    """
    if not is_alias(alias):
        raise ModelwayError(
            f"'{alias}' cannot be an alias",
            do="Use lower-case letters, digits and dashes, such as champion; numbers, v3 and latest name versions",
        )
