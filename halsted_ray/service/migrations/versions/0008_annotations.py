"""What people say about a case: changes of its map, comments, and what of it is in the site's atlas."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

REFUSAL = "a change of annotations is never changed: add another"


def upgrade() -> None:
    """Adds the tables, and the trigger that lets changes only be added, or removed with their case."""
    op.create_table(
        "annotation_changes",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("video_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("author_id", sa.String(), nullable=False),
        sa.Column("at_s", sa.Double(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("op", "span_id", "tag", "category")),
        sa.Column("start_s", sa.Double(), nullable=False),
        sa.Column("stop_s", sa.Double(), nullable=False),
        sa.Column("model_row", sa.JSON(), nullable=True),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.ForeignKeyConstraint(["author_id"], ["users.user_id"]),
        sa.PrimaryKeyConstraint("tenant_id", "video_id", "revision"),
    )
    op.create_table(
        "comments",
        sa.Column("comment_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("video_id", sa.String(), nullable=False),
        sa.Column("author_id", sa.String(), nullable=False),
        sa.Column("at_s", sa.Double(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.ForeignKeyConstraint(["author_id"], ["users.user_id"]),
        sa.PrimaryKeyConstraint("comment_id"),
    )
    op.create_index("comments_by_video", "comments", ["tenant_id", "video_id"])
    op.create_table(
        "atlas_entries",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("video_id", sa.String(), nullable=False),
        sa.Column("atlas_video_id", sa.String(), nullable=False),
        sa.Column("annotators", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("is_withdrawn", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.PrimaryKeyConstraint("tenant_id", "video_id"),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER annotations_no_update BEFORE UPDATE ON annotation_changes "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        )
    else:
        op.execute(
            f"CREATE FUNCTION refuse_annotation_update() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER annotations_no_update BEFORE UPDATE ON annotation_changes "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_annotation_update()"
        )


def downgrade() -> None:
    """Removes the tables with their triggers."""
    for table in ("atlas_entries", "comments", "annotation_changes"):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION refuse_annotation_update()")
