"""The whole record of a run, assets of any files, what was removed, and what others are to be told."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True)

APPEND_ONLY = ("asset_versions", "asset_files", "asset_references", "asset_alias_history")
SERVES = sa.text("weight > 0")
UNSENT = sa.text("sent_at IS NULL AND refused_at IS NULL")


def upgrade() -> None:
    """Add the columns and tables, and the triggers that keep the append-only ones as they were written."""
    _runs()
    _versions()
    _assets()
    _asset_pointers()
    _exports()
    _refuse_changes()


def _runs() -> None:
    op.add_column("runs", sa.Column("diff_digest", sa.Text()))
    op.add_column("runs", sa.Column("repository", sa.Text()))
    op.add_column("datasets", sa.Column("schema", sa.JSON()))
    op.add_column("datasets", sa.Column("statistics", sa.JSON()))
    op.create_index("ix_datasets_name", "datasets", ["name"])
    op.create_index("ix_datasets_uri", "datasets", [sa.func.substr(sa.column("uri"), 1, 300)])
    op.create_index("ix_deployments_serving", "deployments", ["version"], postgresql_where=SERVES, sqlite_where=SERVES)
    op.create_table(
        "environments",
        sa.Column("id", Id, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("python", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("image", sa.Text()),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_environments"),
        sa.UniqueConstraint("digest", name="uq_environments_digest"),
    )
    op.create_table(
        "stages",
        sa.Column("run", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("backend", sa.Text()),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("skipped", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double()),
        sa.Column("cpu_seconds", sa.Double()),
        sa.Column("gpu_seconds", sa.Double()),
        sa.Column("peak_memory_bytes", sa.BigInteger()),
        sa.Column("environment", Id),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_stages_run"),
        sa.ForeignKeyConstraint(["environment"], ["environments.id"], name="fk_stages_environment"),
        sa.PrimaryKeyConstraint("run", "name", name="pk_stages"),
    )
    op.create_index("ix_stages_environment", "stages", ["environment"])
    op.create_table(
        "figures",
        sa.Column("id", Id, nullable=False),
        sa.Column("run", Id, nullable=False),
        sa.Column("stage", sa.Text()),
        sa.Column("checkpoint", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_figures_run"),
        sa.PrimaryKeyConstraint("id", name="pk_figures"),
    )
    op.create_index("ix_figures_run", "figures", ["run"])
    op.create_table(
        "importances",
        sa.Column("run", Id, nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("feature", sa.Text(), nullable=False),
        sa.Column("importance", sa.Double()),
        sa.Column("deviation", sa.Double()),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_importances_run"),
        sa.PrimaryKeyConstraint("run", "checkpoint", "feature", name="pk_importances"),
    )


def _versions() -> None:
    # SQLite adds a column with its reference, but no constraint by itself.
    integer = "BIGINT" if op.get_bind().dialect.name == "postgresql" else "INTEGER"
    op.execute(f"ALTER TABLE versions ADD COLUMN base {integer} CONSTRAINT fk_versions_base REFERENCES versions (id)")
    op.create_index("ix_versions_base", "versions", ["base"])
    op.create_index("ix_versions_checkpoint_digest", "versions", ["checkpoint_digest"])
    op.create_table(
        "architectures",
        sa.Column("version", Id, nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("layers", sa.JSON(), nullable=False),
        sa.Column("tensors", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name="fk_architectures_version"),
        sa.PrimaryKeyConstraint("version", name="pk_architectures"),
    )


def _assets() -> None:
    op.create_table(
        "assets",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
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
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
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
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["assets.id"], name="fk_asset_alias_history_asset"),
        sa.ForeignKeyConstraint(["asset_version"], ["asset_versions.id"], name="fk_asset_alias_history_asset_version"),
        sa.PrimaryKeyConstraint("id", name="pk_asset_alias_history"),
    )
    op.create_index("ix_asset_alias_history_asset", "asset_alias_history", ["asset"])
    op.create_index("ix_asset_alias_history_asset_version", "asset_alias_history", ["asset_version"])


def _exports() -> None:
    op.create_table(
        "removed_files",
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("uri", name="pk_removed_files"),
    )
    op.create_index("ix_removed_files_digest", "removed_files", ["digest"])
    op.create_table(
        "outbox",
        sa.Column("id", Id, nullable=False),
        sa.Column("exporter", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("fact", sa.JSON(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("claimed_until", Time),
        sa.Column("sent_at", Time),
        sa.Column("refused_at", Time),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_unsent", "outbox", ["exporter", "id"], postgresql_where=UNSENT, sqlite_where=UNSENT)


def _refuse_changes() -> None:
    """Refuse every update of the append-only tables; a version's rows are not deleted either."""
    guards = [(table, verb) for table in APPEND_ONLY for verb in ("UPDATE", "DELETE")]
    guards += [(table, "DELETE") for table in ("versions", "alias_history", "weight_history")]
    for table, verb in guards:
        trigger = f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"{trigger} FOR EACH ROW EXECUTE FUNCTION lineage_refuse()")
        else:
            op.execute(f"{trigger} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END")
