"""Cases of several files, what people write about them, what maps say in short, and posters.

Each video of before is a case of one file. Of maps of before only the state is known here: the service makes the rest
of their summaries when it runs (``housekeeping.py``).
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds tables and columns, gives each video its case, and begins the summaries."""
    with op.batch_alter_table("videos") as videos:
        videos.add_column(sa.Column("case_id", sa.String(), nullable=True))
        videos.add_column(sa.Column("position", sa.Integer(), nullable=False, server_default="1"))
        videos.add_column(sa.Column("poster", sa.JSON(), nullable=True))
    op.execute("UPDATE videos SET case_id = substr(video_id, 1, 16)")
    with op.batch_alter_table("videos") as videos:
        videos.alter_column("case_id", existing_type=sa.String(), nullable=False)
    op.create_index("videos_by_case", "videos", ["tenant_id", "case_id"])
    with op.batch_alter_table("uploads") as uploads:
        uploads.add_column(sa.Column("case_id", sa.String(), nullable=True))
        uploads.add_column(sa.Column("position", sa.Integer(), nullable=True))
    op.create_index("ix_uploads_case_id", "uploads", ["case_id"])
    op.create_index("jobs_by_tenant", "jobs", ["tenant_id", "state"])
    op.create_table(
        "operations",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("procedure_chosen", sa.String(), nullable=True),
        sa.Column("operated_on", sa.String(), nullable=True),
        sa.Column("words", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.PrimaryKeyConstraint("tenant_id", "case_id"),
    )
    op.create_table(
        "case_labels",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("folded", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.PrimaryKeyConstraint("tenant_id", "case_id", "folded"),
    )
    op.create_index("labels_by_words", "case_labels", ["tenant_id", "folded"])
    summaries = op.create_table(
        "video_summaries",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("video_id", sa.String(), nullable=False),
        sa.Column("rule", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("model_version", sa.String(), nullable=True),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("not_asked", sa.JSON(), nullable=False),
        sa.Column("procedure", sa.String(), nullable=True),
        sa.Column("procedure_confidence", sa.Double(), nullable=True),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("strip", sa.JSON(), nullable=False),
        sa.Column("strip_categories", sa.JSON(), nullable=False),
        sa.Column("stitches", sa.Integer(), nullable=True),
        sa.Column("rated", sa.Integer(), nullable=False),
        sa.Column("rated_high", sa.Integer(), nullable=False),
        sa.Column("phase_times", sa.JSON(), nullable=False),
        sa.Column("least_sure", sa.Double(), nullable=True),
        sa.Column("longest_s", sa.Double(), nullable=True),
        sa.Column("unlike", sa.Double(), nullable=True),
        sa.Column("moments", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.PrimaryKeyConstraint("tenant_id", "video_id"),
    )
    op.create_index("ix_video_summaries_rule", "video_summaries", ["rule"])
    rows = _states()
    if rows:
        op.bulk_insert(summaries, rows)


def _states() -> list[dict[str, Any]]:
    """A summary that only knows the state, for each video that is there and whose jobs ended with or without a map."""
    ended = op.get_bind().execute(
        sa.text(
            "SELECT jobs.tenant_id, jobs.video_id, jobs.state, jobs.outcome, jobs.reason, jobs.model_version, "
            "jobs.tasks FROM jobs JOIN videos ON videos.tenant_id = jobs.tenant_id AND videos.video_id = jobs.video_id "
            "WHERE jobs.kind = 'map' AND jobs.state IN ('done', 'failed') AND videos.deleted_s IS NULL "
            "ORDER BY jobs.created_s"
        ).columns(tasks=sa.JSON())
    )
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for tenant_id, video_id, state, outcome, reason, model_version, tasks in ended:
        is_mapped = state == "done"
        name = (tenant_id, video_id)
        if not is_mapped and name in found and found[name]["state"] != "failed":
            continue  # the map of before is still there
        found[name] = {
            "tenant_id": tenant_id,
            "video_id": video_id,
            "rule": 0,
            "state": (outcome if outcome == "partial" else "mapped") if is_mapped else "failed",
            "reason": reason,
            "model_version": model_version if is_mapped else None,
            "asked": tasks if is_mapped else [],
            "not_asked": [],
            "words": "",
            "strip": [],
            "strip_categories": [],
            "rated": 0,
            "rated_high": 0,
            "phase_times": {},
            "moments": {},
        }
    return list(found.values())


def downgrade() -> None:
    """Removes them."""
    for name in ("video_summaries", "case_labels", "operations"):
        op.drop_table(name)
    op.drop_index("jobs_by_tenant", "jobs")
    op.drop_index("ix_uploads_case_id", "uploads")
    op.drop_index("videos_by_case", "videos")
    for table, names in (("uploads", ("position", "case_id")), ("videos", ("poster", "position", "case_id"))):
        with op.batch_alter_table(table) as changed:
            for name in names:
                changed.drop_column(name)
