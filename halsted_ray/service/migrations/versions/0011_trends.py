"""Times of steps in summaries, and which cases a cohort is made of."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Adds the column and the table. The housekeeping makes all summaries anew, which fills the column."""
    with op.batch_alter_table("video_summaries") as summaries:
        summaries.add_column(sa.Column("step_times", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "cohorts",
        sa.Column("tenant_id", sa.String(), sa.ForeignKey("tenants.tenant_id"), primary_key=True),
        sa.Column("procedure", sa.String(), primary_key=True),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("history", sa.JSON(), nullable=False),
    )
    own = sa.table("secrets", sa.column("name"), sa.column("value"))
    op.bulk_insert(own, [{"name": "cohorts", "value": secrets.token_hex(32)}])


def downgrade() -> None:
    """Removes the table and the column."""
    op.execute("DELETE FROM secrets WHERE name = 'cohorts'")
    op.drop_table("cohorts")
    with op.batch_alter_table("video_summaries") as summaries:
        summaries.drop_column("step_times")
