"""The keys of models and versions by their names, and the errors for names that are unknown.

Each function works inside the caller's transaction.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

from modelway.errors import UnknownModel, UnknownVersion
from modelway.lineage.read.queries import read_aliases, read_numbers
from modelway.lineage.schema.tables import models, versions


def model_key(connection: Connection, name: str, *, lock: bool = False) -> int:
    """Return the key of a model; its row can be locked until the transaction ends.

    :raises UnknownModel: nothing was ever registered for it
    """
    query = select(models.c.id).where(models.c.name == name)
    key: int | None = connection.execute(query.with_for_update() if lock else query).scalar()
    if key is None:
        known = connection.execute(select(models.c.name).order_by(models.c.name)).scalars().all()
        do = "A model appears here when its DAG has registered a version"
        raise UnknownModel(f"the lineage has no model '{name}'", known=known, given=name, do=do)
    return key


def version_key(connection: Connection, name: str, model: int, number: int) -> int:
    """Return the key of a model's version.

    :param model: the model's key
    :raises UnknownVersion: the model has no such version
    """
    key: int | None = connection.execute(select(versions.c.id).filter_by(model=model, number=number)).scalar()
    if key is None:
        raise unknown_version(connection, name, model, str(number))
    return key


def unknown_version(
    connection: Connection, name: str, model: int, wanted: str, *, dags: Collection[str] | None = None
) -> UnknownVersion:
    """Return the error for a version that a model does not have: it lists numbers and aliases.

    :param model: the model's key
    :param dags: if set, only versions that their runs made are listed
    """
    numbers = read_numbers(connection, model, dags=dags)
    known = [*_as_ranges(numbers), "latest", *read_aliases(connection, model, dags=dags)]
    return UnknownVersion(f"model '{name}' has no version '{wanted}'", known=known, given=wanted)


def _as_ranges(numbers: Sequence[int]) -> list[str]:
    """Write rising numbers in a short form: 1 to 3, 7."""
    ends = [place for place, number in enumerate(numbers) if number + 1 not in numbers[place + 1 : place + 2]]
    starts = [0, *(end + 1 for end in ends)]
    return [
        str(numbers[end]) if start == end else f"{numbers[start]} to {numbers[end]}"
        for start, end in zip(starts, ends, strict=False)
    ]
