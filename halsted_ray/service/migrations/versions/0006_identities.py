"""Which patient and study a video is of that came as DICOM."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TEXTS = (
    "class_uid",
    "series_uid",
    "study_uid",
    "study_id",
    "study_date",
    "study_time",
    "accession_number",
    "patient_id",
    "patient_name",
    "birth_date",
    "sex",
)


def upgrade() -> None:
    """Adds the table."""
    op.create_table(
        "identities",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("video_id", sa.String(), nullable=False),
        sa.Column("instance_uid", sa.String(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in TEXTS),
        sa.Column("received_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.PrimaryKeyConstraint("tenant_id", "video_id", "instance_uid"),
    )


def downgrade() -> None:
    """Removes the table."""
    op.drop_table("identities")
