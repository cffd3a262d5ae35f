"""The quota of a tenant, when the last part of an upload came, and what a job's worker does."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the columns, empty."""
    op.add_column("tenants", sa.Column("quota_bytes", sa.BigInteger(), nullable=True))
    op.add_column("uploads", sa.Column("active_s", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("phase", sa.String(), nullable=True))


def downgrade() -> None:
    """Removes the columns."""
    op.drop_column("jobs", "phase")
    op.drop_column("uploads", "active_s")
    op.drop_column("tenants", "quota_bytes")
