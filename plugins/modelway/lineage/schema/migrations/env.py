"""Alembic's entry: migrates on the connection, and in the transaction, of ``modelway.lineage.schema.migrate``."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
