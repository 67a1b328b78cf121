"""The first schema.

Its types are written out here, not imported from ``tables``: a migration stays what it was when it ran. It has the
number of the last of the six that it was made of: a database that those migrated is one of this schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True)
SERVES = sa.text("weight > 0")
UNSENT = sa.text("sent_at IS NULL AND refused_at IS NULL")

#: tables whose rows are never updated nor deleted
APPEND_ONLY = (
    *("versions", "alias_history", "weight_history", "events"),
    *("asset_versions", "asset_files", "asset_references", "asset_alias_history"),
)


def _texts(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=nullable) for name in names]


def upgrade() -> None:
    """Make every table and the triggers that refuse changes in the append-only ones."""
    _models_and_runs()
    _logged()
    _stages()
    _versions()
    _parts_of_versions()
    _aliases_and_traffic()
    _events()
    _assets()
    _asset_pointers()
    _files_and_exports()
    _refuse_changes()


def _models_and_runs() -> None:
    """Models, their runs, and the data sets of a run."""
    op.create_table(
        "models",
        sa.Column("id", Id, nullable=False),
        *_texts("name", "description"),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
    )
    op.create_table(
        "runs",
        sa.Column("id", Id, nullable=False),
        sa.Column("model", Id, nullable=False),
        *_texts("dag_id", "run_id", "actor", "run_type"),
        sa.Column("started_at", Time),
        *_texts("code_digest", "commit_id", "branch", nullable=True),
        sa.Column("dirty", sa.Boolean()),
        *_texts("diff_digest", "repository", nullable=True),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("inputs_digest", sa.Text()),
        *(sa.Column(name, Time) for name in ("interval_start", "interval_end")),
        sa.Column("partition", sa.Text()),
        sa.Column("run_after", Time),
        sa.Column("reason", sa.Text()),
        *(sa.Column(name, sa.Double()) for name in ("seconds", "gpu_seconds")),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_runs_model"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("model", "dag_id", "run_id", name="uq_runs_model_dag_id_run_id"),
    )
    op.create_index("ix_runs_code_digest", "runs", ["code_digest"])
    op.create_index("ix_runs_commit_id", "runs", ["commit_id"])
    op.create_index("ix_runs_inputs_digest", "runs", ["inputs_digest"])
    op.create_table(
        "datasets",
        sa.Column("id", Id, nullable=False),
        sa.Column("run", Id, nullable=False),
        *_texts("stage", "name", "uri"),
        *_texts("digest", "version", nullable=True),
        sa.Column("rows", sa.BigInteger()),
        sa.Column("schema", sa.JSON()),
        sa.Column("statistics", sa.JSON()),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_datasets_run"),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
    )
    op.create_index("ix_datasets_run", "datasets", ["run"])
    op.create_index("ix_datasets_digest", "datasets", ["digest"])
    op.create_index("ix_datasets_name", "datasets", ["name"])
    op.create_index("ix_datasets_uri", "datasets", [sa.func.substr(sa.column("uri"), 1, 300)])


def _logged() -> None:
    """What a run logged."""
    op.create_table(
        "params",
        sa.Column("run", Id, nullable=False),
        *_texts("stage", "name"),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_params_run"),
        sa.PrimaryKeyConstraint("run", "stage", "name", name="pk_params"),
    )
    op.create_table(
        "metrics",
        sa.Column("run", Id, nullable=False),
        *_texts("stage", "name"),
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
        *_texts("digest", "stage", nullable=True),
        sa.Column("step", sa.BigInteger()),
        sa.Column("note", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Double()) for name in ("seconds", "startup_seconds")),
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
    op.create_table(
        "figures",
        sa.Column("id", Id, nullable=False),
        sa.Column("run", Id, nullable=False),
        *_texts("stage", "checkpoint", nullable=True),
        *_texts("name", "kind"),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_figures_run"),
        sa.PrimaryKeyConstraint("id", name="pk_figures"),
    )
    op.create_index("ix_figures_run", "figures", ["run"])
    op.create_table(
        "importances",
        sa.Column("run", Id, nullable=False),
        *_texts("checkpoint", "feature"),
        *(sa.Column(name, sa.Double()) for name in ("importance", "deviation")),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_importances_run"),
        sa.PrimaryKeyConstraint("run", "checkpoint", "feature", name="pk_importances"),
    )


def _stages() -> None:
    """The stages of a run and what they ran in."""
    op.create_table(
        "environments",
        sa.Column("id", Id, nullable=False),
        *_texts("digest", "python", "platform"),
        sa.Column("image", sa.Text()),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_environments"),
        sa.UniqueConstraint("digest", name="uq_environments_digest"),
    )
    image: sa.ColumnClause[str] = sa.column("image")
    # An image's reference ends with its digest: "sha256:" and 64 digits.
    op.create_index("ix_environments_image", "environments", [sa.func.substr(image, sa.func.length(image) - 70)])
    op.create_table(
        "stages",
        sa.Column("run", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("backend", sa.Text()),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("skipped", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Double()) for name in ("seconds", "cpu_seconds", "gpu_seconds")),
        sa.Column("peak_memory_bytes", sa.BigInteger()),
        sa.Column("environment", Id),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_stages_run"),
        sa.ForeignKeyConstraint(["environment"], ["environments.id"], name="fk_stages_environment"),
        sa.PrimaryKeyConstraint("run", "name", name="pk_stages"),
    )
    op.create_index("ix_stages_environment", "stages", ["environment"])


def _versions() -> None:
    """Versions and their files."""
    op.create_table(
        "versions",
        sa.Column("id", Id, nullable=False),
        sa.Column("model", Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run", Id, nullable=False),
        *_texts("description", "archive_uri", "archive_digest"),
        sa.Column("archive_size", sa.BigInteger(), nullable=False),
        *_texts("model_digest", "checkpoint", "checkpoint_digest"),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("checkpoint_uri", sa.Text()),
        sa.Column("base", Id),
        sa.CheckConstraint("number >= 1", name="ck_versions_number"),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_versions_model"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_versions_run"),
        sa.ForeignKeyConstraint(["base"], ["versions.id"], name="fk_versions_base"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("model", "number", name="uq_versions_model_number"),
        sa.UniqueConstraint("run", name="uq_versions_run"),
    )
    op.create_index("ix_versions_archive_digest", "versions", ["archive_digest"])
    op.create_index("ix_versions_model_digest", "versions", ["model_digest"])
    op.create_index("ix_versions_base", "versions", ["base"])
    op.create_index("ix_versions_checkpoint_digest", "versions", ["checkpoint_digest"])
    op.create_table(
        "files",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_files"),
    )
    op.create_table(
        "version_files",
        sa.Column("version", Id, nullable=False),
        *_texts("path", "digest", "role"),
        sa.ForeignKeyConstraint(["digest"], ["files.digest"], name="fk_version_files_digest"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_version_files_version"),
        sa.PrimaryKeyConstraint("version", "path", name="pk_version_files"),
    )
    op.create_index("ix_version_files_digest", "version_files", ["digest"])


def _parts_of_versions() -> None:
    """What else belongs to a version."""
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
        "architectures",
        sa.Column("version", Id, nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("layers", sa.JSON(), nullable=False),
        sa.Column("tensors", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_architectures_version"),
        sa.PrimaryKeyConstraint("version", name="pk_architectures"),
    )
    op.create_table(
        "images",
        sa.Column("id", Id, nullable=False),
        sa.Column("version", Id, nullable=False),
        *_texts("builder", "digest", "reference"),
        sa.Column("created_at", Time, nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_images_version"),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint(
            "version", "builder", "digest", "reference", name="uq_images_version_builder_digest_reference"
        ),
    )
    op.create_index("ix_images_digest", "images", ["digest"])


def _aliases_and_traffic() -> None:
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
        *_texts("actor", "reason"),
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
    op.create_index("ix_deployments_serving", "deployments", ["version"], postgresql_where=SERVES, sqlite_where=SERVES)
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
        *_texts("endpoint", "run_id"),
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


def _events() -> None:
    """Events and failed attempts."""
    op.create_table(
        "events",
        sa.Column("id", Id, nullable=False),
        sa.Column("at", Time, nullable=False),
        *_texts("actor", "kind"),
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
    op.create_table(
        "failures",
        sa.Column("id", Id, nullable=False),
        *_texts("model", "dag_id", "run_id", "key"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        *_texts("stage", "job", "kind", nullable=True),
        *_texts("cause", "advice", "rule"),
        sa.Column("last_lines", sa.JSON(), nullable=False),
        sa.Column("tried_again", sa.Boolean(), nullable=False),
        sa.Column("mended_by", sa.Integer()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_failures"),
        sa.UniqueConstraint("dag_id", "run_id", "key", "attempt", name="uq_failures_dag_id_run_id_key_attempt"),
    )
    op.create_index("ix_failures_model_at", "failures", ["model", "at"])
    op.create_index("ix_failures_run_id", "failures", ["run_id"])


def _assets() -> None:
    """Assets, their versions, files and references."""
    op.create_table(
        "assets",
        sa.Column("id", Id, nullable=False),
        *_texts("name", "description"),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_assets"),
        sa.UniqueConstraint("name", name="uq_assets_name"),
    )
    op.create_table(
        "asset_versions",
        sa.Column("id", Id, nullable=False),
        sa.Column("asset", Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("version", Id),
        sa.CheckConstraint("number >= 1", name="ck_asset_versions_number"),
        sa.ForeignKeyConstraint(["asset"], ["assets.id"], name="fk_asset_versions_asset"),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_asset_versions_version"),
        sa.PrimaryKeyConstraint("id", name="pk_asset_versions"),
        sa.UniqueConstraint("asset", "number", name="uq_asset_versions_asset_number"),
    )
    op.create_index("ix_asset_versions_digest", "asset_versions", ["digest"])
    op.create_index("ix_asset_versions_version", "asset_versions", ["version"])
    op.create_table(
        "asset_files",
        sa.Column("asset_version", Id, nullable=False),
        *_texts("path", "digest", "uri"),
        sa.ForeignKeyConstraint(["asset_version"], ["asset_versions.id"], name="fk_asset_files_asset_version"),
        sa.ForeignKeyConstraint(["digest"], ["files.digest"], name="fk_asset_files_digest"),
        sa.PrimaryKeyConstraint("asset_version", "path", name="pk_asset_files"),
    )
    op.create_index("ix_asset_files_digest", "asset_files", ["digest"])
    op.create_table(
        "asset_references",
        sa.Column("asset_version", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("target", Id, nullable=False),
        sa.ForeignKeyConstraint(["asset_version"], ["asset_versions.id"], name="fk_asset_references_asset_version"),
        sa.ForeignKeyConstraint(["target"], ["asset_versions.id"], name="fk_asset_references_target"),
        sa.PrimaryKeyConstraint("asset_version", "name", name="pk_asset_references"),
    )
    op.create_index("ix_asset_references_target", "asset_references", ["target"])


def _asset_pointers() -> None:
    """The aliases of assets with their history."""
    op.create_table(
        "asset_aliases",
        sa.Column("asset", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("asset_version", Id, nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["assets.id"], name="fk_asset_aliases_asset"),
        sa.ForeignKeyConstraint(["asset_version"], ["asset_versions.id"], name="fk_asset_aliases_asset_version"),
        sa.PrimaryKeyConstraint("asset", "name", name="pk_asset_aliases"),
    )
    op.create_index("ix_asset_aliases_asset_version", "asset_aliases", ["asset_version"])
    op.create_table(
        "asset_alias_history",
        sa.Column("id", Id, nullable=False),
        sa.Column("asset", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("asset_version", Id),
        sa.Column("at", Time, nullable=False),
        *_texts("actor", "reason"),
        sa.ForeignKeyConstraint(["asset"], ["assets.id"], name="fk_asset_alias_history_asset"),
        sa.ForeignKeyConstraint(["asset_version"], ["asset_versions.id"], name="fk_asset_alias_history_asset_version"),
        sa.PrimaryKeyConstraint("id", name="pk_asset_alias_history"),
    )
    op.create_index("ix_asset_alias_history_asset", "asset_alias_history", ["asset"])
    op.create_index("ix_asset_alias_history_asset_version", "asset_alias_history", ["asset_version"])


def _files_and_exports() -> None:
    """What garbage collection removed, and what is still to be exported."""
    op.create_table(
        "removed_files",
        *_texts("uri", "digest"),
        sa.Column("at", Time, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("uri", name="pk_removed_files"),
    )
    op.create_index("ix_removed_files_digest", "removed_files", ["digest"])
    op.create_table(
        "outbox",
        sa.Column("id", Id, nullable=False),
        *_texts("exporter", "kind"),
        sa.Column("fact", sa.JSON(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        *(sa.Column(name, Time) for name in ("claimed_until", "sent_at", "refused_at")),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_unsent", "outbox", ["exporter", "id"], postgresql_where=UNSENT, sqlite_where=UNSENT)


def _refuse_changes() -> None:
    """Refuse every update and deletion in the append-only tables."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    if is_postgresql:
        op.execute(
            "CREATE FUNCTION lineage_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END$$"
        )
    for table, verb in ((table, verb) for table in APPEND_ONLY for verb in ("UPDATE", "DELETE")):
        trigger = f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
        if is_postgresql:
            op.execute(f"{trigger} FOR EACH ROW EXECUTE FUNCTION lineage_refuse()")
        else:
            op.execute(f"{trigger} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END")
