"""The records of models and versions, as the lineage's facade returns them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from modelway.errors import UnknownModel
from modelway.lineage.read import queries
from modelway.lineage.read.keys import model_key, unknown_version
from modelway.lineage.read.lists import read_newest, read_params_of
from modelway.lineage.read.models import made_by, read_models
from modelway.lineage.records.version import AliasChange, Event, ModelSummary, VersionDetail, VersionSummary
from modelway.lineage.schema.engine import reading
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import alias_history, events, models, runs, versions

Dags = Collection[str] | None


class VersionReader(LineagePart):
    """Reads models and versions; with ``dags``, only what runs of those DAGs made."""

    def models(self, *, dags: Dags = None) -> list[ModelSummary]:
        """Return every model, by name."""
        with reading(self._engine) as connection:
            return read_models(connection, dags=dags)

    def model(self, name: str, *, dags: Dags = None) -> ModelSummary:
        """Return one model.

        :raises UnknownModel: nothing was ever registered for it
        """
        with reading(self._engine) as connection:
            if found := read_models(connection, dags=dags, name=name):
                return found[0]
            known = [model.name for model in read_models(connection, dags=dags)]
            raise UnknownModel(f"the lineage has no model '{name}'", known=known, given=name)

    def versions(
        self, model: str, *, limit: int | None = None, before: int | None = None, dags: Dags = None
    ) -> list[VersionSummary]:
        """Return the model's versions, newest first, those before a number if one is given.

        :raises UnknownModel: nothing was ever registered for it
        """
        with reading(self._engine) as connection:
            key, made = made_by(connection, model)
            if key is None:
                key = model_key(connection, model)
            # Narrowed to the model's own: somebody may be able to read a thousand DAGs.
            if dags is not None and not (dags := [dag for dag in made if dag in dags]):
                return []
            if len(dags or ()) == len(made):
                dags = None
            return queries.read_versions(connection, name=model, model=key, limit=limit, before=before, dags=dags)

    def newest(self, names: Sequence[str], *, each: int, dags: Dags = None) -> dict[str, list[VersionSummary]]:
        """Return so many of the newest versions of some models, newest first, by the model's name."""
        with reading(self._engine) as connection:
            return read_newest(connection, names, each=each, dags=dags)

    def version(self, model: str, number: int) -> VersionDetail:
        """Return the whole record of a version.

        :raises UnknownModel: nothing was ever registered for the model
        :raises UnknownVersion: the model has no such version
        """
        with reading(self._engine) as connection:
            found = queries.read_version(connection, name=model, number=number)
            if found is None:
                raise unknown_version(connection, model, model_key(connection, model), str(number))
            return found

    def params(self, model: str, numbers: Collection[int]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return the parameters of some versions, by number and stage.

        :raises UnknownModel: nothing was ever registered for the model
        """
        with reading(self._engine) as connection:
            return read_params_of(connection, model_key(connection, model), numbers)

    def verifications(self, names: Collection[tuple[str, int]]) -> dict[tuple[str, int], Mapping[str, Any] | None]:
        """Return what versions were verified on, by model and number; None: not known."""
        with reading(self._engine) as connection:
            return queries.verifications_of(connection, names)

    def find(self, model: str, wanted: str, *, dags: Dags = None) -> int:
        """Return the number of the version that ``3``, ``v3``, an alias such as ``champion``, or ``latest`` means.

        :raises UnknownModel: nothing was ever registered for the model
        :raises UnknownVersion: the model has no such version or alias
        """
        with reading(self._engine) as connection:
            number = queries.find_number(connection, model, wanted, dags=dags)
            if number is None:
                raise unknown_version(connection, model, model_key(connection, model), wanted, dags=dags)
            return number

    def existing(self, model: str, numbers: Collection[int], *, dags: Dags = None) -> set[int]:
        """Return those of some numbers that are versions of a model."""
        query = select(versions.c.number).select_from(versions.join(runs, versions.c.run == runs.c.id).join(models))
        query = query.where(models.c.name == model, versions.c.number.in_(numbers))
        with reading(self._engine) as connection:
            return set(connection.execute(queries.of_dags(query, dags)).scalars())

    def version_of_run(self, model: str, *, dag_id: str, run_id: str) -> int | None:
        """Return the number of the version that a run made, None when it made none."""
        query = select(versions.c.number).join(runs, versions.c.run == runs.c.id)
        query = query.join(models, versions.c.model == models.c.id)
        of_run = (models.c.name == model, runs.c.dag_id == dag_id, runs.c.run_id == run_id)
        with reading(self._engine) as connection:
            number: int | None = connection.execute(query.where(*of_run)).scalar()
            return number

    def aliases(self, model: str) -> dict[str, int]:
        """Return the version that each of the model's aliases points at."""
        with reading(self._engine) as connection:
            return queries.read_aliases(connection, model_key(connection, model))

    def alias_history(self, model: str, *, limit: int | None = None, dags: Dags = None) -> list[AliasChange]:
        """Return the moves of the model's aliases, newest first."""
        with reading(self._engine) as connection:
            of_model = alias_history.c.model == model_key(connection, model)
            return queries.read_alias_history(connection, of_model, dags=dags, limit=limit)

    def spec(self, model: str, number: int) -> Mapping[str, Any]:
        """Return the model spec that the run of a version used; empty without such a version."""
        query = (
            select(runs.c.spec)
            .join(versions, versions.c.run == runs.c.id)
            .join(models, versions.c.model == models.c.id)
        )
        with reading(self._engine) as connection:
            found = connection.execute(query.where(models.c.name == model, versions.c.number == number)).scalar()
            return found or {}

    def events(self, model: str, *, limit: int = 100) -> list[Event]:
        """Return the model's newest events, newest first."""
        with reading(self._engine) as connection:
            return queries.read_events(connection, events.c.model == model_key(connection, model), limit=limit)
