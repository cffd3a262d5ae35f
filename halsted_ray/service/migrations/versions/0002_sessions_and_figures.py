"""The sessions of the page, and the metrics of every replica (in the table ``figures``)."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds both tables, and the row that a replica locks while it adds up metrics."""
    op.create_table(
        "sessions",
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"]),
        sa.PrimaryKeyConstraint("token_sha256"),
    )
    op.create_table(
        "figures",
        sa.Column("replica_id", sa.String(), nullable=False),
        sa.Column("samples", sa.JSON(), nullable=False),
        sa.Column("at_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("replica_id"),
    )
    heads = sa.table("heads", sa.column("name"), sa.column("seq"), sa.column("digest"))
    op.bulk_insert(heads, [{"name": "figures", "seq": 0, "digest": ""}])


def downgrade() -> None:
    """Removes both tables."""
    op.drop_table("figures")
    op.drop_table("sessions")
