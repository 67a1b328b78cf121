"""The newest rollout of each endpoint, in one statement however many there are."""

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from modelway.lineage.read.batches import batches
from modelway.lineage.read.queries import of_dags
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.schema.tables import models, rollouts, runs, versions


def read_newest_rollouts(
    connection: Connection, endpoints: Collection[str], *, dags: Collection[str] | None
) -> dict[str, RolloutRecord]:
    """Return the rollout of each endpoint that was begun last, by the endpoint's name, within the caller's transaction.

    :param dags: if set, only of versions that their runs made
    """
    columns = [column for column in rollouts.c if column.name not in ("version", "started_at")]
    found = {}
    for some in batches(endpoints):
        begun = select(rollouts.c.endpoint, func.max(rollouts.c.started_at).label("at"))
        begun = begun.join_from(rollouts, versions).join(runs, versions.c.run == runs.c.id)
        last = of_dags(begun.where(rollouts.c.endpoint.in_(some)), dags).group_by(rollouts.c.endpoint).subquery()
        query = select(*columns, versions.c.number.label("version"), models.c.name.label("model"))
        query = query.join_from(rollouts, versions).join(models, versions.c.model == models.c.id)
        query = query.join(runs, versions.c.run == runs.c.id)
        is_last = (rollouts.c.endpoint == last.c.endpoint) & (rollouts.c.started_at == last.c.at)
        for row in connection.execute(of_dags(query.join(last, is_last), dags)):
            found[row.endpoint] = RolloutRecord(**row._mapping)
    return found
