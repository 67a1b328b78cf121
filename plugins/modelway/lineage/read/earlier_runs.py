"""What a new run learns from earlier ones: a version of the same inputs, a later one, what training costs."""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, not_, or_, select

from modelway.lineage.records.version import TrainingCost
from modelway.lineage.schema.engine import reading
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import models, runs, versions

#: over how many of the newest runs the cost of training is averaged
_NEWEST = 20


def _of_model(model: str, *columns: Any) -> Select[Any]:
    """Return a query of a model's versions with the runs that made them, newest first."""
    made = versions.join(runs, versions.c.run == runs.c.id).join(models, versions.c.model == models.c.id)
    return select(*columns).select_from(made).where(models.c.name == model).order_by(versions.c.number.desc())


def _of_others(query: Select[Any], *, dag_id: str, run_id: str) -> Select[Any]:
    return query.where(not_(and_(runs.c.dag_id == dag_id, runs.c.run_id == run_id)))


class EarlierRuns(LineagePart):
    """Reads what the earlier runs of a model made and cost."""

    def version_of_inputs(self, model: str, digest: str, *, dag_id: str, run_id: str) -> int | None:
        """Return the newest version that another run than this one made from these inputs, None without one."""
        query = _of_others(_of_model(model, versions.c.number), dag_id=dag_id, run_id=run_id)
        with reading(self._engine) as connection:
            number: int | None = connection.execute(query.where(runs.c.inputs_digest == digest).limit(1)).scalar()
            return number

    def later_version(
        self, model: str, *, end: datetime, run_after: datetime, with_start: bool, dag_id: str, run_id: str
    ) -> tuple[int, datetime] | None:
        """Return the version of the latest data interval, and that interval's end, when it is later than a run's.

        :param end: the end of the run's interval
        :param run_after: when the run was due; of two runs of one interval the later one counts as later
        :param with_start: consider only runs whose interval has a start, too
        :param dag_id: with ``run_id``, the run in question: its own version does not count
        """
        query = _of_others(_of_model(model, versions.c.number, runs.c.interval_end), dag_id=dag_id, run_id=run_id)
        newest = (runs.c.interval_end.desc(), runs.c.run_after.desc(), versions.c.number.desc())
        same_data = and_(runs.c.interval_end == end, runs.c.run_after > run_after)
        query = query.order_by(None).order_by(*newest).where(or_(runs.c.interval_end > end, same_data))
        if with_start:
            query = query.where(runs.c.interval_start.is_not(None))
        with reading(self._engine) as connection:
            row = connection.execute(query.limit(1)).first()
            return (row.number, row.interval_end) if row else None

    def training_cost(self, model: str) -> TrainingCost | None:
        """Return the mean cost of training in the model's newest runs; None where no run recorded its cost."""
        query = _of_model(model, runs.c.seconds, runs.c.gpu_seconds).where(runs.c.seconds.is_not(None))
        with reading(self._engine) as connection:
            known = connection.execute(query.limit(_NEWEST)).all()
        if not known:
            return None
        return TrainingCost(
            runs=len(known),
            seconds=sum(row.seconds for row in known) / len(known),
            gpu_seconds=sum(row.gpu_seconds or 0.0 for row in known) / len(known),
        )

    def versions_of_schedule(self, model: str) -> dict[datetime, int]:
        """Return the newest version that a scheduled run or a backfill made, by the start of its data interval."""
        query = _of_model(model, runs.c.interval_start, versions.c.number).where(runs.c.interval_start.is_not(None))
        query = query.where(runs.c.run_type.in_(("backfill", "scheduled")))
        with reading(self._engine) as connection:
            return {row.interval_start: row.number for row in reversed(connection.execute(query).all())}
