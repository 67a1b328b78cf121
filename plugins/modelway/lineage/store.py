"""The lineage: one database with every model, version, run, image, alias, weight and event.

Every write is one transaction and can be repeated: what is there already is not written again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from modelway.errors import ModelwayError, UnknownModel, UnknownRun, UnknownVersion
from modelway.lineage.export.outbox import with_exporters
from modelway.lineage.read import history, queries
from modelway.lineage.read.models import read_models
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import (
    ROLLOUT_STATES,
    AliasChange,
    Event,
    FailureRecord,
    ModelSummary,
    RolloutRecord,
    RunAccount,
    TrainingCost,
    VersionDetail,
    VersionRecord,
    VersionSummary,
    WeightChange,
)
from modelway.lineage.schema import tables
from modelway.lineage.schema.connect import engine_to_read, engine_to_write
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.write import failures
from modelway.lineage.write.alias import check_alias, point_alias
from modelway.lineage.write.bulk_insert import insert_new
from modelway.lineage.write.endpoint_events import record_state
from modelway.lineage.write.events import add_event
from modelway.lineage.write.register import register_version


def open_store(url: str, *, exporters: Iterable[str] = ()) -> "LineageStore":
    """Open the lineage database at an SQLAlchemy URL, making or migrating it if needed.

    :param exporters: names of those who are to be told what is written, see ``outbox``
    :raises NotWritable: the file or its folder cannot be written
    :raises ModelwayError: it is no lineage database, or one that a newer modelway wrote
    """
    return LineageStore(with_exporters(engine_to_write(url), exporters))


def open_to_read(url: str) -> "LineageStore | None":
    """Open the lineage database without write access; None, and nothing is made, when it was never written.

    :raises NotWritable: it has an older schema and cannot be migrated
    :raises ModelwayError: it is no lineage database, or one that a newer modelway wrote
    """
    engine = engine_to_read(url)
    return None if engine is None else LineageStore(engine)


class LineageStore:
    """Reads and writes of the lineage; made by ``open_store``. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        """Use an engine whose schema is current."""
        self._engine = engine

    @property
    def engine(self) -> Engine:
        """The connections, for what works on them by itself."""
        return self._engine

    def register(self, record: VersionRecord) -> int:
        """Write a version in one transaction and return its number.

        A second call for the same (model, DAG run) returns the first number and changes nothing.
        """
        with writing(self._engine) as connection:
            return register_version(connection, record)

    def models(self, *, dags: Collection[str] | None = None) -> list[ModelSummary]:
        """Return every model, by name; given ``dags``, as far as runs of those DAGs made its versions."""
        with reading(self._engine) as connection:
            return read_models(connection, dags=dags)

    def versions(
        self, model: str, *, limit: int | None = None, dags: Collection[str] | None = None
    ) -> list[VersionSummary]:
        """Return the model's versions, newest first; given ``dags``, those that runs of those DAGs made.

        :raises UnknownModel: nothing was ever registered for it
        """
        with reading(self._engine) as connection:
            key = _model_key(connection, model)
            return queries.read_versions(connection, name=model, model=key, limit=limit, dags=dags)

    def version(self, model: str, number: int) -> VersionDetail:
        """Return the whole record of a version.

        :raises UnknownModel: nothing was ever registered for the model
        :raises UnknownVersion: the model has no such version
        """
        with reading(self._engine) as connection:
            found = queries.read_version(connection, name=model, number=number)
            if found is None:
                raise _unknown_version(connection, model, _model_key(connection, model), str(number))
            return found

    def verifications(self, names: Collection[tuple[str, int]]) -> dict[tuple[str, int], Mapping[str, Any] | None]:
        """Return on what versions were verified, by model and number; None: not known."""
        with reading(self._engine) as connection:
            return queries.verifications_of(connection, names)

    def find(self, model: str, wanted: str, *, dags: Collection[str] | None = None) -> int:
        """Return the number of the version that ``3``, ``v3``, an alias such as ``champion``, or ``latest`` means.

        Given ``dags``, only the versions that runs of those DAGs made are there.

        :raises UnknownModel: nothing was ever registered for the model
        :raises UnknownVersion: the model has no such version or alias
        """
        with reading(self._engine) as connection:
            number = queries.find_number(connection, model, wanted, dags=dags)
            if number is None:
                raise _unknown_version(connection, model, _model_key(connection, model), wanted, dags=dags)
            return number

    def version_of_run(self, model: str, *, dag_id: str, run_id: str) -> int | None:
        """Return the number of the version that a run made, None when it made none."""
        query = select(tables.versions.c.number).join(tables.runs, tables.versions.c.run == tables.runs.c.id)
        query = query.join(tables.models, tables.versions.c.model == tables.models.c.id)
        with reading(self._engine) as connection:
            number: int | None = connection.execute(
                query.where(
                    tables.models.c.name == model, tables.runs.c.dag_id == dag_id, tables.runs.c.run_id == run_id
                )
            ).scalar()
            return number

    def version_of_inputs(self, model: str, digest: str, *, dag_id: str, run_id: str) -> int | None:
        """Return the newest version that another run than the given one made from these inputs, None without one."""
        with reading(self._engine) as connection:
            return history.version_of_inputs(connection, model, digest, dag_id=dag_id, run_id=run_id)

    def later_version(
        self, model: str, *, end: datetime, run_after: datetime, with_start: bool, dag_id: str, run_id: str
    ) -> tuple[int, datetime] | None:
        """Return the version of the latest data interval, and that interval's end, when it is later than a run's.

        :param end: the end of the run's interval
        :param run_after: when the run was to begin; of two runs of one interval the later one counts as later
        :param with_start: look only at runs whose interval has a begin, too
        :param dag_id: with ``run_id``, the run that asks: its own version does not count
        """
        with reading(self._engine) as connection:
            run = {"dag_id": dag_id, "run_id": run_id}
            return history.later_version(connection, model, end=end, run_after=run_after, with_start=with_start, **run)

    def training_cost(self, model: str) -> TrainingCost | None:
        """Return what training the model took in its newest runs, on the mean; None without a run that tells."""
        with reading(self._engine) as connection:
            return history.training_cost(connection, model)

    def versions_of_schedule(self, model: str) -> dict[datetime, int]:
        """Return the newest version that a scheduled run or a backfill made, by the begin of its data interval."""
        with reading(self._engine) as connection:
            return history.versions_of_schedule(connection, model)

    def record_reuse(
        self,
        *,
        model: str,
        version: int,
        dag_id: str,
        run_id: str,
        actor: str = "airflow",
        reason: str = "",
        alias: str | None = None,
    ) -> bool:
        """Record that a run took a version that was there already, and point an alias at it, in one transaction.

        The same again changes nothing: the alias, too, is left where it is.

        :raises ModelwayError: the alias reads like a version number, or is ``latest``
        """
        if alias is not None:
            check_alias(alias)
        with self._writing_to(model, version) as (connection, keys):
            run = {"dag_id": dag_id, "run_id": run_id}
            return history.record_reuse(connection, keys, **run, actor=actor, reason=reason, alias=alias)

    def aliases(self, model: str) -> dict[str, int]:
        """Return the version that each of the model's aliases points at."""
        with reading(self._engine) as connection:
            return queries.read_aliases(connection, _model_key(connection, model))

    def alias_history(self, model: str) -> list[AliasChange]:
        """Return every move of the model's aliases, newest first."""
        with reading(self._engine) as connection:
            which = tables.alias_history.c.model == _model_key(connection, model)
            return queries.read_alias_history(connection, which)

    def set_alias(
        self,
        *,
        model: str,
        alias: str,
        version: int,
        actor: str = "airflow",
        reason: str = "",
        run_id: str | None = None,
    ) -> bool:
        """Point an alias at a version and say whether it moved; the move goes into its history and the events.

        :raises ModelwayError: the alias reads like a version number, or is ``latest``
        """
        check_alias(alias)
        with self._writing_to(model, version) as (connection, keys):
            if queries.read_aliases(connection, keys["model"]).get(alias) == version:
                return False
            point_alias(connection, keys, alias=alias, actor=actor, reason=reason, run_id=run_id)
            return True

    def record_image(
        self, *, model: str, version: int, builder: str, digest: str, reference: str, actor: str = "airflow"
    ) -> None:
        """Record an image made of a version; the same image again changes nothing."""
        with self._writing_to(model, version) as (connection, keys):
            image = {"builder": builder, "digest": digest, "reference": reference}
            row = {"version": keys["version"], **image}
            if connection.execute(select(tables.images.c.id).filter_by(**row)).first() is None:
                connection.execute(insert(tables.images), row | {"created_at": datetime.now(UTC)})
                add_event(connection, keys, kind="image-built", actor=actor, run_id=None, detail=image)

    def weights(self, endpoint: str) -> dict[int, int]:
        """Return the current percentage of each version that the endpoint has had, by version number."""
        query = select(tables.versions.c.number, tables.deployments.c.weight).join(tables.deployments)
        query = query.where(tables.deployments.c.endpoint == endpoint).order_by(tables.versions.c.number)
        with reading(self._engine) as connection:
            return {number: weight for number, weight in connection.execute(query)}

    def weight_history(self, endpoint: str) -> list[WeightChange]:
        """Return every change of the endpoint's weights, newest first."""
        with reading(self._engine) as connection:
            return queries.read_weight_history(connection, tables.weight_history.c.endpoint == endpoint)

    def record_weights(
        self,
        *,
        endpoint: str,
        model: str,
        weights: Mapping[int, int],
        actor: str = "airflow",
        run_id: str | None = None,
    ) -> bool:
        """Record an endpoint's weights (per cent by version) and say whether any changed.

        A version that is left out goes to 0; only changes go into the history.

        :raises ModelwayError: a weight is not within 0 to 100
        """
        if any(not 0 <= weight <= 100 for weight in weights.values()):
            raise ModelwayError(f"weights must lie within 0 and 100, got {dict(weights)}", where=f"endpoint {endpoint}")
        with writing(self._engine) as connection:
            model_key = _model_key(connection, model, lock=True)
            wanted = {_version_key(connection, model, model_key, number): w for number, w in weights.items()}
            query = select(tables.deployments.c.version, tables.deployments.c.weight)
            query = query.where(tables.deployments.c.endpoint == endpoint)
            current: dict[int, int] = {version: weight for version, weight in connection.execute(query)}
            target = dict.fromkeys(current, 0) | wanted
            changed = [(version, weight) for version, weight in target.items() if current.get(version) != weight]
            now = datetime.now(UTC)
            for version, weight in changed:
                row = {"endpoint": endpoint, "version": version}
                connection.execute(delete(tables.deployments).filter_by(**row))
                connection.execute(insert(tables.deployments), row | {"weight": weight, "since": now})
                line = row | {"weight": weight, "at": now, "actor": actor, "run_id": run_id}
                connection.execute(insert(tables.weight_history), line)
            if changed:
                detail = {"endpoint": endpoint, "weights": dict(weights)}
                keys = {"model": model_key}
                add_event(connection, keys, kind="weights-set", actor=actor, run_id=run_id, detail=detail)
            return bool(changed)

    def record_endpoint(
        self,
        *,
        endpoint: str,
        model: str,
        url: str,
        is_stopped: bool = False,
        actor: str = "airflow",
        run_id: str | None = None,
    ) -> bool:
        """Record where an endpoint serves, or that somebody stopped it, and say whether that is new.

        :raises UnknownModel: nothing was ever registered for the model
        """
        with writing(self._engine) as connection:
            key = _model_key(connection, model, lock=True)
            return record_state(
                connection, key, endpoint=endpoint, url=url, is_stopped=is_stopped, actor=actor, run_id=run_id
            )

    def rollout(self, endpoint: str, run_id: str) -> RolloutRecord | None:
        """Return how far a run's rollout at an endpoint has come, None before it began."""
        with reading(self._engine) as connection:
            return queries.read_rollout(connection, endpoint=endpoint, run_id=run_id)

    def save_rollout(self, record: RolloutRecord, *, actor: str = "airflow") -> None:
        """Write how far a rollout has come; a change of its state is an event.

        :raises ModelwayError: the state is not one of ``ROLLOUT_STATES``
        """
        if record.state not in ROLLOUT_STATES:
            raise ModelwayError(
                f"'{record.state}' is not a state of a rollout", known=ROLLOUT_STATES, given=record.state
            )
        with self._writing_to(record.model, record.version) as (connection, keys):
            before = queries.read_rollout(connection, endpoint=record.endpoint, run_id=record.run_id)
            if before == record:
                return
            now, row = datetime.now(UTC), {"endpoint": record.endpoint, "run_id": record.run_id}
            news = {"version": keys["version"], "state": record.state, "step": record.step}
            news |= {"detail": plain(record.detail), "updated_at": now}
            insert_new(connection, tables.rollouts, [row | news | {"started_at": now}])
            connection.execute(update(tables.rollouts).filter_by(**row).values(news))
            if before is None or before.state != record.state:
                detail = {"endpoint": record.endpoint, "step": record.step, **record.detail}
                kind = f"rollout-{record.state}"
                add_event(connection, keys, kind=kind, actor=actor, run_id=record.run_id, detail=detail)

    def record_failure(self, record: FailureRecord) -> None:
        """Record that a try of a task failed; the same try again replaces what was known of it."""
        with writing(self._engine) as connection:
            failures.write_failure(connection, record)

    def record_mended(self, *, dag_id: str, run_id: str, key: str, attempt: int) -> int:
        """Record that a try succeeded, and return how many failed tries before it that mends."""
        with writing(self._engine) as connection:
            return failures.mend_failures(connection, dag_id=dag_id, run_id=run_id, key=key, attempt=attempt)

    def account(self, wanted: str, *, model: str | None = None) -> RunAccount:
        """Return how a run went: the run of an id or, given a model's name, the model's last run.

        :param model: whose run is meant, where several models have one of this id
        :raises UnknownRun: there is no such run, or several
        """
        with reading(self._engine) as connection:
            found = failures.runs_named(connection, wanted)
            own = [(name, dag_id) for name, dag_id in found if model in (None, name)]
            if len(own) > 1:
                raise UnknownRun(
                    f"several models have a run '{wanted}'",
                    known=[name for name, _ in own],
                    do="Name one of them with --model",
                )
            if own:
                return failures.account_of(connection, model=own[0][0], dag_id=own[0][1], run_id=wanted)
            if model in (None, wanted) and (last := failures.last_run(connection, wanted)):
                return failures.account_of(connection, model=wanted, dag_id=last[0], run_id=last[1])
            what = f"model '{model}' has no run '{wanted}'" if model else f"no run and no model is called '{wanted}'"
            heard_of = failures.models_heard_of(connection)
            raise UnknownRun(what, known=heard_of, given=model or wanted, do=_DO_FAIL)

    def events(self, model: str, *, limit: int = 100) -> list[Event]:
        """Return the model's newest events, newest first."""
        with reading(self._engine) as connection:
            which = tables.events.c.model == _model_key(connection, model)
            return queries.read_events(connection, which, limit=limit)

    @contextmanager
    def _writing_to(self, model: str, version: int) -> Iterator[tuple[Connection, dict[str, int]]]:
        """One write transaction about a version; the model's row is locked: its writers take turns."""
        with writing(self._engine) as connection:
            key = _model_key(connection, model, lock=True)
            yield connection, {"model": key, "version": _version_key(connection, model, key, version)}


def _model_key(connection: Connection, name: str, *, lock: bool = False) -> int:
    query = select(tables.models.c.id).where(tables.models.c.name == name)
    key: int | None = connection.execute(query.with_for_update() if lock else query).scalar()
    if key is None:
        known = connection.execute(select(tables.models.c.name).order_by(tables.models.c.name)).scalars().all()
        raise UnknownModel(f"the lineage has no model '{name}'", known=known, given=name, do=_DO_RUN)
    return key


_DO_FAIL = "A run is known here when one of its tasks has failed or it has made a version"
_DO_RUN = "A model appears here when its DAG has registered a version"


def _version_key(connection: Connection, name: str, model: int, number: int) -> int:
    key: int | None = connection.execute(select(tables.versions.c.id).filter_by(model=model, number=number)).scalar()
    if key is None:
        raise _unknown_version(connection, name, model, str(number))
    return key


def _unknown_version(
    connection: Connection, name: str, model: int, wanted: str, *, dags: Collection[str] | None = None
) -> UnknownVersion:
    numbers = queries.read_numbers(connection, model, dags=dags)
    known = [*_in_ranges(numbers), "latest", *queries.read_aliases(connection, model, dags=dags)]
    return UnknownVersion(f"model '{name}' has no version '{wanted}'", known=known, given=wanted)


def _in_ranges(numbers: Sequence[int]) -> list[str]:
    """Write rising numbers short: 1 to 3, 7."""
    ends = [place for place, number in enumerate(numbers) if number + 1 not in numbers[place + 1 : place + 2]]
    starts = [0, *(end + 1 for end in ends)]
    return [
        str(numbers[end]) if start == end else f"{numbers[start]} to {numbers[end]}"
        for start, end in zip(starts, ends, strict=False)
    ]
