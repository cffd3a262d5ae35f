"""Links with which others look at one case, and whether browsers play a video or a copy of it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds the tables and the columns."""
    op.create_table(
        "links",
        sa.Column("link_id", sa.String(), primary_key=True),
        sa.Column("token_sha256", sa.String(), nullable=False, unique=True),
        sa.Column("tenant_id", sa.String(), sa.ForeignKey("tenants.tenant_id"), nullable=False),
        sa.Column("video_id", sa.String(), nullable=False),
        sa.Column("from_s", sa.Double(), nullable=True),
        sa.Column("to_s", sa.Double(), nullable=True),
        sa.Column("shows", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(), sa.ForeignKey("users.user_id"), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=False),
        sa.Column("revoked_s", sa.Double(), nullable=True),
    )
    op.create_index("links_by_video", "links", ["tenant_id", "video_id"])
    op.create_table(
        "link_sessions",
        sa.Column("token_sha256", sa.String(), primary_key=True),
        sa.Column("link_id", sa.String(), sa.ForeignKey("links.link_id"), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=False),
    )
    op.create_index("ix_link_sessions_link_id", "link_sessions", ["link_id"])
    with op.batch_alter_table("videos") as videos:
        videos.add_column(sa.Column("playback", sa.String(), nullable=True))
        videos.add_column(sa.Column("proxy_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Removes the tables and the columns."""
    with op.batch_alter_table("videos") as videos:
        videos.drop_column("proxy_bytes")
        videos.drop_column("playback")
    op.drop_table("link_sessions")
    op.drop_table("links")
