"""Alembic runs this file: it applies the migrations over the connection that ``Database.migrate`` holds."""

from alembic import context

from halsted_ray.service.tables import Base

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    # Two replicas that start at once would create the same tables: the second replica waits here.
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7251)")
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
