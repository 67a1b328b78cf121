"""The first schema.

Its types are written out here, not taken from ``tables``: a migration stays what it was when it ran.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True)

APPEND_ONLY = ("versions", "alias_history", "weight_history", "events")


def upgrade() -> None:
    """Make every table and the triggers that keep the append-only ones as they were written."""
    _models_and_runs()
    _versions()
    _movable()
    _refuse_updates()


def _models_and_runs() -> None:
    """Models, runs and what a run logged."""
    op.create_table(
        "models",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
    )
    op.create_table(
        "runs",
        sa.Column("id", Id, nullable=False),
        sa.Column("model", Id, nullable=False),
        sa.Column("dag_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("run_type", sa.Text(), nullable=False),
        sa.Column("started_at", Time),
        sa.Column("code_digest", sa.Text()),
        sa.Column("commit_id", sa.Text()),
        sa.Column("branch", sa.Text()),
        sa.Column("dirty", sa.Boolean()),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_runs_model"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("model", "dag_id", "run_id", name="uq_runs_model_dag_id_run_id"),
    )
    op.create_index("ix_runs_code_digest", "runs", ["code_digest"])
    op.create_index("ix_runs_commit_id", "runs", ["commit_id"])
    op.create_table(
        "params",
        sa.Column("run", Id, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_params_run"),
        sa.PrimaryKeyConstraint("run", "stage", "name", name="pk_params"),
    )
    op.create_table(
        "metrics",
        sa.Column("run", Id, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("series", sa.JSON(), nullable=False),
        sa.Column("last_value", sa.Double()),
        sa.Column("last_flag", sa.Text()),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_metrics_run"),
        sa.PrimaryKeyConstraint("run", "stage", "name", name="pk_metrics"),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", Id, nullable=False),
        sa.Column("run", Id, nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("stage", sa.Text()),
        sa.Column("step", sa.BigInteger()),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_evaluations_run"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint("run", "checkpoint", name="uq_evaluations_run_checkpoint"),
    )
    op.create_table(
        "evaluation_metrics",
        sa.Column("evaluation", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("flag", sa.Text()),
        sa.ForeignKeyConstraint(["evaluation"], ["evaluations.id"], name="fk_evaluation_metrics_evaluation"),
        sa.PrimaryKeyConstraint("evaluation", "name", name="pk_evaluation_metrics"),
    )


def _versions() -> None:
    """Versions and what belongs to them for good."""
    op.create_table(
        "versions",
        sa.Column("id", Id, nullable=False),
        sa.Column("model", Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run", Id, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("archive_uri", sa.Text(), nullable=False),
        sa.Column("archive_digest", sa.Text(), nullable=False),
        sa.Column("archive_size", sa.BigInteger(), nullable=False),
        sa.Column("model_digest", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("checkpoint_digest", sa.Text(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("number >= 1", name="ck_versions_number"),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_versions_model"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_versions_run"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("model", "number", name="uq_versions_model_number"),
        sa.UniqueConstraint("run", name="uq_versions_run"),
    )
    op.create_index("ix_versions_archive_digest", "versions", ["archive_digest"])
    op.create_index("ix_versions_model_digest", "versions", ["model_digest"])
    op.create_table(
        "version_metrics",
        sa.Column("version", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("flag", sa.Text()),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_version_metrics_version"),
        sa.PrimaryKeyConstraint("version", "name", name="pk_version_metrics"),
    )
    op.create_index("ix_version_metrics_name_value", "version_metrics", ["name", "value"])
    op.create_table(
        "files",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_files"),
    )
    op.create_table(
        "version_files",
        sa.Column("version", Id, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["files.digest"], name="fk_version_files_digest"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_version_files_version"),
        sa.PrimaryKeyConstraint("version", "path", name="pk_version_files"),
    )
    op.create_index("ix_version_files_digest", "version_files", ["digest"])
    op.create_table(
        "images",
        sa.Column("id", Id, nullable=False),
        sa.Column("version", Id, nullable=False),
        sa.Column("builder", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_images_version"),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint(
            "version", "builder", "digest", "reference", name="uq_images_version_builder_digest_reference"
        ),
    )
    op.create_index("ix_images_digest", "images", ["digest"])


def _movable() -> None:
    """What moves, with its history."""
    op.create_table(
        "aliases",
        sa.Column("model", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", Id, nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_aliases_model"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_aliases_version"),
        sa.PrimaryKeyConstraint("model", "name", name="pk_aliases"),
    )
    op.create_index("ix_aliases_version", "aliases", ["version"])
    op.create_table(
        "alias_history",
        sa.Column("id", Id, nullable=False),
        sa.Column("model", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", Id),
        sa.Column("at", Time, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_alias_history_model"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_alias_history_version"),
        sa.PrimaryKeyConstraint("id", name="pk_alias_history"),
    )
    op.create_index("ix_alias_history_model_name", "alias_history", ["model", "name"])
    op.create_index("ix_alias_history_version", "alias_history", ["version"])
    op.create_table(
        "deployments",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("version", Id, nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("since", Time, nullable=False),
        sa.CheckConstraint("weight BETWEEN 0 AND 100", name="ck_deployments_weight"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_deployments_version"),
        sa.PrimaryKeyConstraint("endpoint", "version", name="pk_deployments"),
    )
    op.create_index("ix_deployments_version", "deployments", ["version"])
    op.create_table(
        "weight_history",
        sa.Column("id", Id, nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("version", Id, nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.CheckConstraint("weight BETWEEN 0 AND 100", name="ck_weight_history_weight"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_weight_history_version"),
        sa.PrimaryKeyConstraint("id", name="pk_weight_history"),
    )
    op.create_index("ix_weight_history_endpoint", "weight_history", ["endpoint"])
    op.create_index("ix_weight_history_version", "weight_history", ["version"])
    op.create_table(
        "rollouts",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("version", Id, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("started_at", Time, nullable=False),
        sa.Column("updated_at", Time, nullable=False),
        sa.CheckConstraint("state IN ('running', 'done', 'aborted')", name="ck_rollouts_state"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_rollouts_version"),
        sa.PrimaryKeyConstraint("endpoint", "run_id", name="pk_rollouts"),
    )
    op.create_index("ix_rollouts_version", "rollouts", ["version"])
    op.create_table(
        "events",
        sa.Column("id", Id, nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", Id),
        sa.Column("version", Id),
        sa.Column("run_id", sa.Text()),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_events_model"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_events_version"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_model_id", "events", ["model", "id"])
    op.create_index("ix_events_version", "events", ["version"])


def _refuse_updates() -> None:
    """Refuse every update of the append-only tables, and the deletion of events."""
    guards = [(table, "UPDATE") for table in APPEND_ONLY] + [("events", "DELETE")]
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION lineage_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END$$"
        )
    for table, verb in guards:
        trigger = f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"{trigger} FOR EACH ROW EXECUTE FUNCTION lineage_refuse()")
        else:
            op.execute(f"{trigger} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END")
