"""Why a job, a cleaning or a map failed, as a code beside the text; and an index of the procedures of maps."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
TABLES = ("jobs", "videos", "video_summaries")


def upgrade() -> None:
    """Adds the columns and the index. What failed before keeps its text alone."""
    for table in TABLES:
        with op.batch_alter_table(table) as changed:
            changed.add_column(sa.Column("cause", sa.JSON(), nullable=True))
    op.create_index("video_summaries_by_procedure", "video_summaries", ["tenant_id", "procedure"])


def downgrade() -> None:
    """Removes the index and the columns."""
    op.drop_index("video_summaries_by_procedure", "video_summaries")
    for table in TABLES:
        with op.batch_alter_table(table) as changed:
            changed.drop_column("cause")
