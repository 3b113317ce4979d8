"""Alembic's entry: the connection is handed in, so there is no ini file and no second engine."""

from alembic import context

from counterfoil.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
