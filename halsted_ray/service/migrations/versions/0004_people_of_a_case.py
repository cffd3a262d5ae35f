"""Whose case a video is, with whom it is shared, its consent and retention; keys that all expire; setup links.

The owner of an old video is whoever completed its first upload. Where no upload is known, the video has no owner and
everybody of its tenant who could see it before still can. An old key without an end gets one: 90 days from now.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY_DAYS = 90


def upgrade() -> None:
    """Adds tables and columns, and fills in owners and the end of keys."""
    with op.batch_alter_table("videos") as videos:
        videos.add_column(
            sa.Column("owner_id", sa.String(), sa.ForeignKey("users.user_id", name="videos_owner"), nullable=True)
        )
        videos.add_column(sa.Column("consent", sa.String(), nullable=False, server_default="unknown"))
        videos.add_column(sa.Column("keep_until_s", sa.Double(), nullable=True))
        videos.add_column(sa.Column("legal_hold", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_videos_owner_id", "videos", ["owner_id"])
    op.create_table(
        "shares",
        sa.Column("share_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("video_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("relation", sa.String(), nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"]),
        sa.PrimaryKeyConstraint("share_id"),
    )
    op.create_index("shares_by_video", "shares", ["tenant_id", "video_id"])
    op.create_index("ix_shares_user_id", "shares", ["user_id"])
    op.create_table(
        "setup_links",
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("token_sha256"),
    )
    # No text of SQL depends on what a client wrote.
    op.execute(
        "UPDATE videos SET owner_id = (SELECT uploads.user_id FROM uploads WHERE uploads.tenant_id = videos.tenant_id "
        "AND uploads.video_id = videos.video_id AND uploads.state = 'complete' ORDER BY uploads.created_s LIMIT 1)"
    )
    op.execute(f"UPDATE keys SET expires_s = {time.time() + KEY_DAYS * 86_400} WHERE expires_s IS NULL")
    with op.batch_alter_table("keys") as keys:
        keys.alter_column("expires_s", existing_type=sa.Double(), nullable=False)
    heads = sa.table("heads", sa.column("name"), sa.column("seq"), sa.column("digest"))
    op.bulk_insert(
        heads,
        [{"name": "audit-export", "seq": 0, "digest": "0" * 64}, {"name": "retention", "seq": 0, "digest": ""}],
    )


def downgrade() -> None:
    """Removes the tables and columns."""
    op.execute("DELETE FROM heads WHERE name IN ('audit-export', 'retention')")
    with op.batch_alter_table("keys") as keys:
        keys.alter_column("expires_s", existing_type=sa.Double(), nullable=True)
    op.drop_table("setup_links")
    op.drop_table("shares")
    op.drop_index("ix_videos_owner_id", "videos")
    with op.batch_alter_table("videos") as videos:
        for name in ("legal_hold", "keep_until_s", "consent", "owner_id"):
            videos.drop_column(name)
