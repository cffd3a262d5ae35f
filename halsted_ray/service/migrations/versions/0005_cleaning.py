"""Uploads are cleaned: the state of each video, its certificate, and the site's key that signs certificates.

Videos of before are ``ready``, and nothing says that they were cleaned. All jobs of before are maps.
"""

import base64
import secrets

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the table and the columns, and makes the key."""
    with op.batch_alter_table("videos") as videos:
        videos.add_column(sa.Column("state", sa.String(), nullable=False, server_default="ready"))
        videos.add_column(sa.Column("original", sa.String(), nullable=True))
        videos.add_column(sa.Column("cleaning", sa.JSON(), nullable=True))
        videos.add_column(sa.Column("reason", sa.String(), nullable=True))
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("kind", sa.String(), nullable=False, server_default="map"))
    op.create_index("ix_videos_state", "videos", ["state"])
    op.create_table(
        "certificates",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("video_id", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.PrimaryKeyConstraint("tenant_id", "video_id"),
    )
    own = sa.table("secrets", sa.column("name"), sa.column("value"))
    # 32 random bytes are a private key of Ed25519.
    op.bulk_insert(own, [{"name": "certificates", "value": base64.b64encode(secrets.token_bytes(32)).decode()}])


def downgrade() -> None:
    """Removes them."""
    op.execute("DELETE FROM secrets WHERE name = 'certificates'")
    op.drop_table("certificates")
    op.drop_index("ix_videos_state", "videos")
    op.execute("DELETE FROM jobs WHERE kind <> 'map'")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("kind")
    with op.batch_alter_table("videos") as videos:
        for name in ("reason", "cleaning", "original", "state"):
            videos.drop_column(name)
