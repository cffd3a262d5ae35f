"""Why a job, a cleaning or a map failed, as a code beside the text."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
TABLES = ("jobs", "videos", "video_summaries")


def upgrade() -> None:
    """Adds the columns. What failed before keeps its text alone."""
    for table in TABLES:
        with op.batch_alter_table(table) as changed:
            changed.add_column(sa.Column("cause", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Removes the columns."""
    for table in TABLES:
        with op.batch_alter_table(table) as changed:
            changed.drop_column("cause")
